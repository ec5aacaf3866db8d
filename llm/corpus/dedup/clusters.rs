//! Documents that are the same or nearly: which of them stays, and a list of what was merged with what.
//!
//! The list is a line of JSON a cluster: the document that stays, and each that goes with its similarity to it.

use super::config::Keep;
use super::merge;
use super::minhash::similarity;
use super::round::{RANGES, Round};
use super::table::{Place, Tables};
use crate::corpus::rows::{RowWriter, too_large};
use crate::corpus::sort::{Budget, Merge, Sorted, Sorter};
use crate::error::{Result, file_error};
use crate::files::NewFile;
use serde::{Deserialize, Serialize};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

/// Documents of which one stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The one that stays.
    pub kept: Member,
    /// Those that go.
    pub removed: Vec<Member>,
}

/// A document of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Bytes of its text.
    pub bytes: u64,
    /// Its similarity to the one that stays, as it was estimated; 1 of what is the same.
    pub similarity: f64,
}

/// Writes the list of clusters, a member at a time: a cluster may have any number.
struct List<'a> {
    file: BufWriter<NewFile>,
    path: PathBuf,
    tables: Tables<'a>,
    /// The document that stays of the cluster that is being written, its signature, and how many follow it so far.
    open: Option<(Place, Vec<i32>, usize)>,
}

impl<'a> List<'a> {
    fn create(round: &Round, tables: Tables<'a>) -> Result<List<'a>> {
        let path = round.clusters.clone();
        let fail = |e: std::io::Error| file_error(&path, "the clusters cannot be written", e);
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(fail)?;
        let file = BufWriter::new(NewFile::create(&path).map_err(fail)?);
        Ok(List { file, path, tables, open: None })
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.file.write_all(text.as_bytes()).map_err(|e| file_error(&self.path, "the clusters cannot be written", e))
    }

    /// Takes a document that goes, and the one that stays in its stead; those of one cluster follow one another.
    fn push(&mut self, kept: Place, goes: Place) -> Result<()> {
        if self.open.as_ref().is_none_or(|open| open.0 != kept) {
            self.end()?;
            let entry = self.tables.entry(kept)?;
            let member = Member { id: self.tables.id(kept)?, bytes: entry.bytes, similarity: 1.0 };
            self.write(&format!("{{\"kept\":{},\"removed\":[", json(&member)))?;
            self.open = Some((kept, entry.signature, 0));
        }
        let (entry, id) = (self.tables.entry(goes)?, self.tables.id(goes)?);
        let (_, signature, before) = self.open.as_mut().expect("it was just opened");
        let alike = if signature.is_empty() { 1.0 } else { similarity(&entry.signature, signature) };
        let comma = if *before == 0 { "" } else { "," };
        *before += 1;
        self.write(&format!("{comma}{}", json(&Member { id, bytes: entry.bytes, similarity: alike })))
    }

    fn end(&mut self) -> Result<()> {
        self.open.take().map_or(Ok(()), |_| self.write("]}\n"))
    }

    fn finish(mut self) -> Result<()> {
        self.end()?;
        let fail = |e: std::io::Error| file_error(&self.path, "the clusters cannot be written", e);
        self.file.into_inner().map_err(|e| fail(e.into_error()))?.commit().map_err(fail)
    }
}

fn json(member: &Member) -> String {
    serde_json::to_string(member).expect("a member has a JSON form")
}

/// The pairs of all ranges, by the later place.
fn all_pairs(round: &Round) -> Result<Merge<2>> {
    let files: Vec<PathBuf> = (0..RANGES).map(|r| round.pairs(r)).collect();
    merge::pairs(round, &files, 0, None, round.merged_folder().join("all.runs"))
}

/// What a step that only one thread does may use.
fn budget(round: &Round) -> Budget {
    Budget { bytes: round.work.memory / 4, files: 128 }
}

/// Of documents whose text is the same all but the first go.
pub fn exact(round: &Round) -> Result<()> {
    let mut removed = RowWriter::create(&round.removed(), 16, &round.merged_of())?;
    let mut by_first = Sorter::<2>::new(round.merged_folder().join("first.runs"), budget(round));
    for pair in all_pairs(round)? {
        round.work.go_on()?;
        let [later, first] = pair?;
        removed.push_words(&[later, first])?;
        by_first.push([first, later])?;
    }
    let folder = round.keys_folder();
    let mut list = List::create(round, Tables::new(&folder, &round.made_of, 0))?;
    for pair in by_first.finish()? {
        round.work.go_on()?;
        let [first, later] = pair?;
        list.push(first, later)?;
    }
    list.finish()?;
    removed.finish().map(drop)
}

/// Documents that are nearly the same, and joined by others that are: of each such cluster one stays.
pub fn near(round: &Round) -> Result<()> {
    let folder = round.keys_folder();
    let mut tables = Tables::new(&folder, &round.made_of, round.minima());
    let (places, edges) = alike(round, &mut tables)?;
    let mut components = Components::new(places);
    for edge in edges {
        let [later, first] = edge?;
        components.join(later, first);
    }
    let kept = choose(round, tables, components)?;
    let mut removed = RowWriter::create(&round.removed(), 16, &round.merged_of())?;
    for (place, kept) in kept.iter().filter(|(place, kept)| place != kept) {
        removed.push_words(&[*place, *kept])?;
    }
    removed.finish().map(drop)
}

/// The pairs that are similar enough, and the places in them, ascending.
fn alike(round: &Round, tables: &mut Tables) -> Result<(Vec<Place>, Sorted<2>)> {
    let merged = round.merged_folder();
    let mut edges = Sorter::<2>::new(merged.join("edges.runs"), budget(round));
    let mut places = Sorter::<1>::new(merged.join("places.runs"), budget(round).share(2));
    let mut last = None;
    for pair in all_pairs(round)? {
        round.work.go_on()?;
        let pair = pair?;
        // two documents meet in each band they share
        if last.replace(pair) != Some(pair) && are_alike(round, tables, pair)? {
            edges.push(pair)?;
            pair.into_iter().try_for_each(|p| places.push([p]))?;
        }
    }
    let mut distinct = vec![];
    for place in places.finish()? {
        let [place] = place?;
        if distinct.last() != Some(&place) {
            distinct.push(place);
            room_for(round, distinct.len())?;
        }
    }
    Ok((distinct, edges.finish()?))
}

/// Bytes a document with a near duplicate takes: its place, its component, and both again while they are sorted.
const A_DOCUMENT: u64 = 40;

fn room_for(round: &Round, documents: usize) -> Result<()> {
    let (bytes, room) = (documents as u64 * A_DOCUMENT, round.work.memory / 2);
    if bytes > room { Err(too_large(&format!("{documents} documents and more that have near duplicates"), bytes, room)) } else { Ok(()) }
}

fn are_alike(round: &Round, tables: &mut Tables, [a, b]: [Place; 2]) -> Result<bool> {
    let least = round.config.min_similarity;
    Ok(least == 0.0 || similarity(&tables.entry(a)?.signature, &tables.entry(b)?.signature) >= least)
}

/// Places that are joined to each other, directly or by others (union-find).
struct Components {
    places: Vec<Place>,
    /// Of each place the number of one before it in its component, or its own.
    before: Vec<u32>,
}

impl Components {
    fn new(places: Vec<Place>) -> Components {
        Components { before: (0..places.len() as u32).collect(), places }
    }

    /// The first of a component; what is on the way to it comes nearer.
    fn first(&mut self, mut number: u32) -> u32 {
        while self.before[number as usize] != number {
            let before = self.before[number as usize];
            self.before[number as usize] = self.before[before as usize];
            number = before;
        }
        number
    }

    fn join(&mut self, a: Place, b: Place) {
        let number = |p: Place| self.places.binary_search(&p).expect("every place of a pair is there") as u32;
        let (a, b) = (number(a), number(b));
        let (a, b) = (self.first(a), self.first(b));
        self.before[a.max(b) as usize] = a.min(b);
    }

    /// The places, each behind the number of its component, sorted.
    fn sorted(mut self) -> Vec<(u32, Place)> {
        let mut members: Vec<(u32, Place)> = (0..self.places.len()).map(|n| (self.first(n as u32), self.places[n])).collect();
        members.sort_unstable();
        members
    }
}

/// Lists the clusters, and says of each place which stays in its stead, by place.
fn choose(round: &Round, mut tables: Tables, components: Components) -> Result<Vec<(Place, Place)>> {
    let mut chosen = vec![];
    for cluster in components.sorted().chunk_by(|a, b| a.0 == b.0) {
        round.work.go_on()?;
        let kept = stays(round, &mut tables, cluster)?;
        chosen.extend(cluster.iter().map(|m| (m.1, kept)));
    }
    let mut list = List::create(round, tables)?;
    for (goes, kept) in chosen.iter().filter(|(goes, kept)| goes != kept) {
        list.push(*kept, *goes)?;
    }
    list.finish()?;
    chosen.sort_unstable();
    Ok(chosen)
}

/// The member of a cluster that stays.
fn stays(round: &Round, tables: &mut Tables, members: &[(u32, Place)]) -> Result<Place> {
    let mut best = members[0].1;
    if round.config.keep == Keep::Longest {
        let mut most = tables.entry(best)?.bytes;
        for (_, member) in &members[1..] {
            let bytes = tables.entry(*member)?.bytes;
            if bytes > most {
                (best, most) = (*member, bytes);
            }
        }
    }
    Ok(best)
}
