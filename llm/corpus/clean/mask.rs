//! Addresses and numbers of people behind masks.

use super::super::report::Report;
use super::config::Mask;
use regex::{Captures, Regex};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern reads")
}

static EMAIL: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i-u)[a-z0-9][a-z0-9._%+-]*@(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,24}\b"));
static IPV4: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?-u)\b[0-9]{1,3}(?:\.[0-9]{1,3}){3,}\b"));
static IPV6: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i-u)\b[0-9a-f]{1,4}(?::{1,2}[0-9a-f]{1,4}){2,7}\b(?:::)?|\b[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){0,6}::(?:[0-9a-f]{1,4}\b)?")
});
/// From abroad, +49 30 1234567, of which the digits are counted; and as in North America, (555) 123-4567 or 555-123-4567.
static PHONE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?-u)\+[1-9][0-9]{0,2}(?:[ .-]?\(?[0-9]{1,5}\)?){2,6}\b|(?:\([2-9][0-9]{2}\) ?|\b[2-9][0-9]{2}[-. ])[2-9][0-9]{2}[-. ][0-9]{4}\b")
});

/// A text behind masks, whose matches are counted.
pub fn mask(text: String, masks: &[Mask], id: &str, report: &mut Report) -> String {
    masks.iter().fold(text, |text, mask| match mask {
        Mask::Email => hide(text, &['@'], &EMAIL, &|_, _, _| true, "<EMAIL>", "mask-email", id, report),
        Mask::Phone => hide(text, &['+', '(', '-', '.'], &PHONE, &is_phone, "<PHONE>", "mask-phone", id, report),
        Mask::Ip => {
            let text = hide(text, &['.'], &IPV4, &is_public_v4, "<IP>", "mask-ip", id, report);
            hide(text, &[':'], &IPV6, &is_public_v6, "<IP>", "mask-ip", id, report)
        }
    })
}

/// Replaces what a pattern finds and a test agrees to. The test is told what stands before, the match, and what stands behind. Where none of the signs is in
/// the text, one of which every match has, nothing is looked for.
fn hide(
    text: String,
    signs: &[char],
    pattern: &Regex,
    test: &dyn Fn(&str, &str, &str) -> bool,
    mask: &str,
    reason: &str,
    id: &str,
    report: &mut Report,
) -> String {
    if !text.contains(signs) {
        return text;
    }
    let mut found = false;
    let new = pattern.replace_all(&text, |c: &Captures| {
        let whole = c.get(0).expect("a match has a whole");
        if !test(&text[..whole.start()], whole.as_str(), &text[whole.end()..]) {
            return whole.as_str().to_string();
        }
        found = true;
        report.tally(reason, whole.len(), id, whole.as_str());
        mask.to_string()
    });
    let new = found.then(|| new.into_owned());
    new.unwrap_or(text)
}

/// Whether a match goes on behind its end: it is then a part of something else.
fn goes_on(behind: &str) -> bool {
    let mut next = behind.chars();
    match next.next() {
        Some('.' | '-') => next.next().is_some_and(|c| c.is_ascii_digit()),
        Some(c) => c.is_alphanumeric() || c == '_',
        None => false,
    }
}

/// Whether a match is the end of something longer.
fn is_inside(before: &str) -> bool {
    before.chars().next_back().is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

fn is_phone(before: &str, text: &str, behind: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    !is_inside(before) && !goes_on(behind) && !before.ends_with('/') && (8..=15).contains(&digits)
}

/// An address that others can reach. Four numbers behind the word version are none.
fn is_public_v4(before: &str, text: &str, behind: &str) -> bool {
    let reserved = |a: Ipv4Addr| {
        let near = a.is_private() || a.is_loopback() || a.is_link_local() || a.is_broadcast();
        near || a.is_multicast() || a.is_documentation() || a.octets()[0] == 0
    };
    !is_inside(before) && !goes_on(behind) && !is_version(before) && text.parse::<Ipv4Addr>().is_ok_and(|a| !reserved(a))
}

/// Whether the word before says that a version follows.
fn is_version(before: &str) -> bool {
    let word = before.trim_end_matches([' ', ':']).rsplit(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    ["version", "release", "build", "v", "ver"].iter().any(|w| word.eq_ignore_ascii_case(w))
}

/// An address that others can reach: those of 2000::/3, but for the one of examples. Names of programs such as `abc::def` are none.
fn is_public_v6(before: &str, text: &str, behind: &str) -> bool {
    let public = |a: Ipv6Addr| a.segments()[0] & 0xE000 == 0x2000 && !(a.segments()[0] == 0x2001 && a.segments()[1] == 0xDB8);
    !is_inside(before) && !goes_on(behind) && text.parse::<Ipv6Addr>().is_ok_and(public)
}
