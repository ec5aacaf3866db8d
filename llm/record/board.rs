//! `tb/`: what TensorBoard shows of a run. A file is a row of records, each a length, the masked CRC-32C of it, an event as Protocol Buffers
//! have it, and the masked CRC-32C of that (TensorFlow's `record_writer.h`, `event.proto`, `summary.proto`; field numbers are theirs).

use prost::Message;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The name of the directory in a run's.
pub const BOARD: &str = "tb";

/// A file of events that is being written.
pub(super) struct Board {
    pub(super) path: PathBuf,
    file: File,
}

/// What one record says.
#[derive(Clone, PartialEq, Message)]
pub struct BoardEvent {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// The step.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// The version of the format, of a file's first record.
    #[prost(string, optional, tag = "3")]
    pub file_version: Option<String>,
    /// Values.
    #[prost(message, optional, tag = "5")]
    pub summary: Option<Summary>,
    /// That a training begins: what other files say of this step and those after it is void.
    #[prost(message, optional, tag = "7")]
    pub session_log: Option<SessionLog>,
}

/// Values of a step.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// Each by its tag.
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Tagged>,
}

/// A value.
#[derive(Clone, PartialEq, Message)]
pub struct Tagged {
    /// What it is called.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// A number.
    #[prost(float, optional, tag = "2")]
    pub simple_value: Option<f32>,
    /// Or texts.
    #[prost(message, optional, tag = "8")]
    pub tensor: Option<Strings>,
    /// Which of TensorBoard's pages shows it.
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<Metadata>,
}

/// A tensor of texts.
#[derive(Clone, PartialEq, Message)]
pub struct Strings {
    /// 7: texts.
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    /// Its shape: of one text none.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Scalar>,
    /// The texts.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub string_val: Vec<Vec<u8>>,
}

/// A shape without dims.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Scalar {}

/// Which page shows a value.
#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    /// The page.
    #[prost(message, optional, tag = "1")]
    pub plugin_data: Option<Page>,
    /// 2: a tensor.
    #[prost(int32, tag = "4")]
    pub data_class: i32,
}

/// A page of TensorBoard's by name.
#[derive(Clone, PartialEq, Message)]
pub struct Page {
    /// The name.
    #[prost(string, tag = "1")]
    pub plugin_name: String,
}

/// The state of a training.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct SessionLog {
    /// 1: it begins.
    #[prost(int32, tag = "1")]
    pub status: i32,
}

impl Board {
    /// A new file, after those there are, whose first step is `step`. What these say of that step and later ones TensorBoard forgets.
    pub(super) fn create(run: &Path, step: u64, now: f64) -> io::Result<Board> {
        let dir = run.join(BOARD);
        fs::create_dir_all(&dir)?;
        // files are read in the order of their names
        let second = (now as u64).max(latest(&dir)?.map_or(0, |s| s + 1));
        let path = dir.join(format!("events.out.tfevents.{second:010}.eggcorn"));
        let mut board = Board { file: File::options().append(true).create_new(true).open(&path)?, path };
        board.write(&BoardEvent { wall_time: now, file_version: Some("brain.Event:2".into()), ..BoardEvent::default() })?;
        let begins = Some(SessionLog { status: 1 });
        board.write(&BoardEvent { wall_time: now, step: step as i64, session_log: begins, ..BoardEvent::default() })?;
        Ok(board)
    }

    fn write(&mut self, event: &BoardEvent) -> io::Result<()> {
        self.file.write_all(&record(event))
    }

    /// Numbers of a step.
    pub(super) fn scalars(&mut self, now: f64, step: u64, values: &[(&str, Option<f64>)]) -> io::Result<()> {
        let number = |(tag, x): &(&str, Option<f64>)| {
            let simple_value = Some((*x)? as f32);
            Some(Tagged { tag: tag.to_string(), simple_value, ..Tagged::default() })
        };
        self.summary(now, step, values.iter().filter_map(number).collect())
    }

    /// A text of a step.
    pub(super) fn text(&mut self, now: f64, step: u64, tag: &str, text: &str) -> io::Result<()> {
        // the page reads Markdown, where a text as it stands is indented
        let shown: String = text.lines().map(|l| format!("    {l}\n")).collect();
        let tensor = Some(Strings { dtype: 7, shape: Some(Scalar {}), string_val: vec![shown.into_bytes()] });
        let metadata = Some(Metadata { plugin_data: Some(Page { plugin_name: "text".into() }), data_class: 2 });
        self.summary(now, step, vec![Tagged { tag: tag.into(), simple_value: None, tensor, metadata }])
    }

    fn summary(&mut self, wall_time: f64, step: u64, value: Vec<Tagged>) -> io::Result<()> {
        self.write(&BoardEvent { wall_time, step: step as i64, summary: Some(Summary { value }), ..BoardEvent::default() })
    }
}

/// The greatest second in the name of a file that is there.
fn latest(dir: &Path) -> io::Result<Option<u64>> {
    let mut most = None;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let second = name.to_str().and_then(|n| n.strip_prefix("events.out.tfevents.")?.split('.').next()?.parse().ok());
        most = most.max(second);
    }
    Ok(most)
}

/// The bytes of an event's record.
fn record(event: &BoardEvent) -> Vec<u8> {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), &data, &masked(&data).to_le_bytes()].concat()
}

/// CRC-32C, turned so that the checksum of what holds checksums is none of them.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// The events of a file, which must be whole but for its end, which may be cut.
pub fn events(mut bytes: &[u8]) -> Result<Vec<BoardEvent>, String> {
    let mut out = vec![];
    while let Some((head, rest)) = bytes.split_first_chunk::<12>() {
        let (length, check) = head.split_at(8);
        let n = u64::from_le_bytes(length.try_into().expect("eight bytes"));
        if masked(length).to_le_bytes() != *check {
            return Err(format!("record {}: its length has another checksum", out.len()));
        }
        let Some((data, rest)) = usize::try_from(n).ok().and_then(|n| rest.split_at_checked(n)) else { break };
        let Some((check, rest)) = rest.split_first_chunk::<4>() else { break };
        if masked(data).to_le_bytes() != *check {
            return Err(format!("record {}: it has another checksum", out.len()));
        }
        out.push(BoardEvent::decode(data).map_err(|e| format!("record {}: {e}", out.len()))?);
        bytes = rest;
    }
    Ok(out)
}
