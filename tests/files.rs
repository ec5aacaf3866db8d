//! Files: written whole, through links, with their rights; one writer a directory; texts and tokenizers as they come from outside.

use crate::cli::Directory;
use llm::{RunLock, Tokenizer, read_text, write_file};
use std::fs;
use std::path::Path;

/// Names in a directory, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn refused<T>(result: llm::Result<T>, words: &[&str]) {
    let error = result.err().expect("it is refused").to_string();
    words.iter().for_each(|w| assert!(error.contains(w), "'{w}' is not in: {error}"));
}

#[test]
fn a_file_is_written_and_no_other_name_is_touched() {
    let d = Directory::new("write");
    let path = d.0.join("x.out");
    for name in ["x.tmp", "x.out.tmp", ".x.out.tmp"] {
        d.write(name, "the user's");
    }
    let before = names(&d.0);
    write_file(&path, b"one").unwrap();
    write_file(&path, b"two, longer").unwrap();
    write_file(&path, b"3").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"3");
    assert!(before.iter().all(|n| fs::read(d.0.join(n)).unwrap() == b"the user's"));
    assert_eq!(names(&d.0).len(), before.len() + 1, "nothing is left behind");
    refused(write_file(&d.0.join("nowhere/x"), b""), &["nowhere/x", "cannot be written"]);
    refused(write_file(Path::new(""), b""), &["cannot be written"]);
    // one that cannot be put in its place is not left beside it
    refused(write_file(Path::new(&d.path("slash/")), b""), &["slash/", "cannot be written"]);
    assert_eq!(names(&d.0).len(), before.len() + 1);
}

#[test]
#[cfg(unix)]
fn writing_goes_through_links() {
    use std::os::unix::fs::symlink;
    let d = Directory::new("links");
    fs::create_dir(d.0.join("far")).unwrap();
    d.write("far/target", "old");
    // relative to the link's place, over two links; and to what is not there yet
    symlink("second", d.0.join("first")).unwrap();
    symlink("far/target", d.0.join("second")).unwrap();
    symlink("far/new", d.0.join("dangling")).unwrap();
    write_file(&d.0.join("first"), b"new").unwrap();
    write_file(&d.0.join("dangling"), b"made").unwrap();
    assert_eq!((fs::read(d.0.join("far/target")).unwrap(), fs::read(d.0.join("far/new")).unwrap()), (b"new".to_vec(), b"made".to_vec()));
    for link in ["first", "second", "dangling"] {
        assert!(fs::symlink_metadata(d.0.join(link)).unwrap().is_symlink(), "{link} is a link still");
    }
    assert_eq!((names(&d.0).len(), names(&d.0.join("far"))), (4, vec!["new".to_string(), "target".into()]));
    symlink("circle", d.0.join("circle")).unwrap();
    refused(write_file(&d.0.join("circle"), b""), &["circle", "cannot be written"]);
}

#[test]
#[cfg(unix)]
fn writing_keeps_the_mode() {
    use std::os::unix::fs::PermissionsExt;
    let d = Directory::new("mode");
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o7777;
    for wanted in [0o600, 0o640, 0o666, 0o755, 0o777] {
        let path = d.0.join("x");
        d.write("x", "old");
        fs::set_permissions(&path, fs::Permissions::from_mode(wanted)).unwrap();
        write_file(&path, b"new").unwrap();
        assert_eq!((mode(&path), fs::read(&path).unwrap()), (wanted, b"new".to_vec()), "{wanted:o}");
    }
    // a new file gets what any new file gets
    fs::write(d.0.join("plain"), "").unwrap();
    write_file(&d.0.join("ours"), b"").unwrap();
    assert_eq!(mode(&d.0.join("ours")), mode(&d.0.join("plain")));
}

#[test]
#[cfg(unix)]
fn what_is_no_regular_file_is_not_replaced() {
    use std::os::unix::fs::symlink;
    let d = Directory::new("irregular");
    fs::create_dir(d.0.join("directory")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(d.0.join("pipe")).status().unwrap().success());
    symlink("/dev/null", d.0.join("link")).unwrap();
    refused(write_file(&d.0.join("directory"), b"x"), &["directory", "it is a directory", "name a regular file"]);
    refused(write_file(&d.0.join("pipe"), b"x"), &["it is a pipe"]);
    refused(write_file(&d.0.join("link"), b"x"), &["it is a device"]);
    refused(write_file(Path::new("/dev/null"), b"x"), &["/dev/null", "it is a device"]);
    refused(write_file(Path::new("/dev/stdout"), b"x"), &["/dev/stdout"]);
    // an open file of this process has a name of its own
    let file = fs::File::create(d.0.join("open")).unwrap();
    let through = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    if Path::new(&through).exists() {
        refused(write_file(Path::new(&through), b"x"), &["a file that a process has open"]);
    }
    assert_eq!(names(&d.0), ["directory", "link", "open", "pipe"]);
}

#[test]
#[cfg(unix)]
fn a_file_that_may_not_be_written_is_not_replaced() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let d = Directory::new("read-only");
    let path = d.write("x", "kept");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    if fs::metadata(&path).unwrap().uid() == 0 {
        // the superuser may write everything, and the mode stays
        write_file(Path::new(&path), b"new").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
        return;
    }
    refused(write_file(Path::new(&path), b"new"), &["x", "denied"]);
    assert_eq!(fs::read(&path).unwrap(), b"kept");
}

/// What dies while writing leaves a file under a name of its own, and whoever is next to lock the directory removes it; what lives does not
/// lose its file, and a user's is not taken for one.
#[test]
fn remains_of_dead_writers_are_swept() {
    let d = Directory::new("sweep");
    let held = fs::File::create(d.0.join(".eggcorn-0123456789abcdef.tmp")).unwrap();
    held.lock().unwrap();
    d.write(".eggcorn-fedcba9876543210.tmp", "dead");
    for name in [".eggcorn-notes.tmp", "eggcorn-0123456789abcdef.tmp", ".eggcorn-0123456789abcdef.txt"] {
        d.write(name, "the user's");
    }
    drop(RunLock::take(&d.0).unwrap());
    assert_eq!(names(&d.0), [".eggcorn-0123456789abcdef.tmp", ".eggcorn-0123456789abcdef.txt", ".eggcorn-notes.tmp", "eggcorn-0123456789abcdef.tmp"]);
}

#[test]
fn a_directory_has_one_writer() {
    let d = Directory::new("lock");
    let run = d.0.join("deep/run");
    let first = RunLock::take(&run).unwrap();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    refused(RunLock::take(&run), &["deep/run", &format!("process {}", std::process::id()), host.trim(), "since 20", "UTC", "name another --out"]);
    drop(first);
    assert!(!run.exists(), "a directory made for nothing is gone");
    // one that holds something stays, without the lock
    let again = RunLock::take(&run).unwrap();
    fs::write(run.join("x"), "").unwrap();
    drop(again);
    assert_eq!(names(&run), ["x"]);
    // of a process that died the file is left, and nobody holds it
    fs::write(run.join(".eggcorn.lock"), "eggcorn process 1 on elsewhere since 1970-01-01").unwrap();
    drop(RunLock::take(&run).unwrap());
    assert_eq!(names(&run), ["x"]);
    // another program's file is not touched
    fs::write(run.join(".eggcorn.lock"), "mine").unwrap();
    refused(RunLock::take(&run), &[".eggcorn.lock", "remove it"]);
    assert_eq!(fs::read(run.join(".eggcorn.lock")).unwrap(), b"mine");
    fs::remove_file(run.join(".eggcorn.lock")).unwrap();
    #[cfg(unix)]
    {
        // nor what a link points to, even where it is empty
        d.write("empty", "");
        std::os::unix::fs::symlink(d.0.join("empty"), run.join(".eggcorn.lock")).unwrap();
        refused(RunLock::take(&run), &[".eggcorn.lock", "no lock"]);
        assert_eq!(fs::read(d.0.join("empty")).unwrap(), b"");
    }
    // a directory that was there stays though it is empty
    fs::create_dir(d.0.join("empty-run")).unwrap();
    drop(RunLock::take(&d.0.join("empty-run")).unwrap());
    assert!(d.0.join("empty-run").exists());
    refused(RunLock::take(&d.0.join("empty")), &["cannot be"]);
}

#[test]
fn dates() {
    for (seconds, wanted) in [
        (0, "1970-01-01 00:00:00 UTC"),
        (951_782_399, "2000-02-28 23:59:59 UTC"),
        (951_782_400, "2000-02-29 00:00:00 UTC"),
        (951_868_800, "2000-03-01 00:00:00 UTC"),
        (1_735_689_599, "2024-12-31 23:59:59 UTC"),
        (1_785_586_394, "2026-08-01 12:13:14 UTC"),
        (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        (4_107_542_399, "2100-02-28 23:59:59 UTC"),
    ] {
        assert_eq!(llm::utc(seconds), wanted);
    }
}

#[test]
fn tokenizers_read_back() {
    for text in ["a", "ba\r\n\u{1F95A}é\0", "\u{10FFFF}\"\\"] {
        let t = Tokenizer::of(llm::Kind::Char, text).unwrap();
        assert_eq!(Tokenizer::parse(&t.to_json()).unwrap(), t);
        assert_eq!(t.decode(&t.encode(text).unwrap()), text);
        let mut characters: Vec<char> = text.chars().collect();
        characters.sort();
        assert_eq!(t, Tokenizer::Char { characters });
    }
    assert_eq!(Tokenizer::parse(&Tokenizer::Byte.to_json()).unwrap(), Tokenizer::Byte);
    assert_eq!(Tokenizer::of(llm::Kind::Byte, "x").unwrap(), Tokenizer::Byte);
    assert_eq!(Tokenizer::of(llm::Kind::Char, "banana").unwrap().size(), 3);
    assert_eq!(Tokenizer::Byte.encode("é").unwrap(), [0xC3, 0xA9]);
    let error = Tokenizer::of(llm::Kind::Char, "ab").unwrap().encode("aΩb").unwrap_err().to_string();
    assert!(error.contains("'Ω'"), "{error}");
}

#[test]
fn files_that_are_no_tokenizer_are_refused() {
    let d = Directory::new("tokenizer");
    let read = |content: &str, words: &[&str]| {
        d.write(Tokenizer::OWN, content);
        refused(Tokenizer::read(&d.0), &[words, &[Tokenizer::OWN]].concat());
    };
    read("", &["not a tokenizer"]);
    read("[]", &["not a tokenizer"]);
    read("{\"format\":1,\"kind\":\"char\",\"characters\":[\"a\",", &["not a tokenizer"]);
    read("{\"format\":1,\"kind\":\"char\",\"characters\":[]}", &["empty"]);
    read("{\"format\":1,\"kind\":\"char\"}", &["no list of characters"]);
    read("{\"format\":1,\"kind\":\"char\",\"characters\":[\"b\",\"a\"]}", &["in order", "'b'", "'a'"]);
    read("{\"format\":1,\"kind\":\"char\",\"characters\":[\"a\",\"b\",\"b\"]}", &["none twice", "'b'"]);
    read("{\"format\":1,\"kind\":\"char\",\"characters\":[\"a\",\"bc\"]}", &["not a tokenizer"]);
    read("{\"format\":1,\"kind\":\"byte\",\"characters\":[\"a\"]}", &["one of bytes"]);
    read("{\"format\":1,\"kind\":\"word\"}", &["word"]);
    read("{\"format\":1,\"kind\":\"byte\",\"extra\":1}", &["extra"]);
    read("{\"format\":2,\"kind\":\"byte\"}", &["format 2", "format 1"]);
    read("{\"format\":0,\"kind\":\"char\",\"characters\":[\"a\"]}", &["format 0"]);
    read("{\"kind\":\"byte\"}", &["format"]);
    read(&"[".repeat(100_000), &["not a tokenizer"]);
    // Hugging Face's
    let foreign = r#"{"version":"1.0","truncation":null,"added_tokens":[],"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}"#;
    fs::remove_file(d.0.join(Tokenizer::OWN)).unwrap();
    refused(Tokenizer::read(&d.0), &["no such file"]);
    d.write("tokenizer.json", foreign);
    assert_eq!(Tokenizer::read(&d.0).unwrap().encode("aba").unwrap(), [0, 0]);
    d.write("tokenizer.json", r#"{"kind":"char","characters":["a","b"]}"#);
    refused(Tokenizer::read(&d.0), &["tokenizer.json", "missing field `format`"]);
    d.write(Tokenizer::OWN, r#"{"format": 1, "kind":"char","characters":["a","b"]}"#);
    assert_eq!(Tokenizer::read(&d.0).unwrap().size(), 2);
    // longer than any: not read to its end
    fs::File::create(d.0.join(Tokenizer::OWN)).unwrap().set_len(1 << 40).unwrap();
    refused(Tokenizer::read(&d.0), &["longer than 33554432 bytes"]);
    d.write(Tokenizer::OWN, b"\xff");
    refused(Tokenizer::read(&d.0), &["cannot be read"]);
}

#[test]
fn texts() {
    let d = Directory::new("texts");
    let text = |content: &[u8]| read_text(Path::new(&d.write("t", content)));
    // a byte order mark is no text at the start, and a character elsewhere; line ends stay
    assert_eq!(text("\u{FEFF}ab".as_bytes()).unwrap(), "ab");
    assert_eq!(text("\u{FEFF}\u{FEFF}a\u{FEFF}".as_bytes()).unwrap(), "\u{FEFF}a\u{FEFF}");
    assert_eq!(text(b"a\r\nb\r").unwrap(), "a\r\nb\r");
    for empty in ["", " \n\t", "\u{FEFF}", "\u{FEFF}\r\n"] {
        refused(text(empty.as_bytes()), &["the text is empty"]);
    }
    refused(text(b"\xe9"), &["byte 0, in line 1, is 0xe9", "LATIN1"]);
    refused(text("é\n\né".as_bytes().iter().copied().chain([b'x', 0xC3]).collect::<Vec<_>>().as_slice()), &["byte 7, in line 3, is 0xc3"]);
    refused(text(b"\xff\xfea\0"), &["byte 0", "0xff", "UTF-16"]);
    refused(text(b"\xfe\xff\0a"), &["0xfe", "UTF-16"]);
    refused(read_text(&d.0.join("missing")), &["missing", "cannot be read", "give a file"]);
    refused(read_text(&d.0), &["it is a directory", "give a file"]);
    refused(read_text(Path::new("-")), &["standard input"]);
    if cfg!(unix) {
        refused(read_text(Path::new("/dev/zero")), &["/dev/zero", "it is a device"]);
    }
}

/// Ids in files are 32 bits wide or refused with their number.
#[test]
fn ids_from_files() {
    let file = |dtype: &str, bytes: &[u8], shape: &str| {
        let header = format!(r#"{{"ids":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{}]}}}}"#, bytes.len());
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), bytes].concat()
    };
    let wide = |ids: &[i64]| ids.iter().flat_map(|i| i.to_le_bytes()).collect::<Vec<u8>>();
    let d = Directory::new("ids");
    let of = |content: &[u8], name: &str, shape: &[u64]| {
        let ty = ir::Type::of(ir::DType::I32, shape.iter().map(|n| ir::Dim::num(*n)));
        let bytes = llm::named::Tensors::open(Path::new(&d.write("f", content)))?.expect(name, &ty)?;
        Ok::<_, llm::Error>(bytes.chunks(4).map(|c| i32::from_le_bytes(c.try_into().unwrap())).collect::<Vec<i32>>())
    };
    let read = |content: &[u8], shape: &[u64]| of(content, "ids", shape);
    let edges = [i64::from(i32::MIN), -100, 0, 7, i64::from(i32::MAX), 1];
    assert_eq!(read(&file("I64", &wide(&edges), "[2,3]"), &[2, 3]).unwrap(), edges.map(|i| i as i32).to_vec());
    let narrow: Vec<u8> = [-1i32, i32::MAX].iter().flat_map(|i| i.to_le_bytes()).collect();
    assert_eq!(read(&file("I32", &narrow, "[2]"), &[2]).unwrap(), [-1, i32::MAX]);
    for (bad, text) in [(1i64 << 31, "2147483648"), (i64::MIN, "-9223372036854775808"), (i64::from(i32::MIN) - 1, "-2147483649")] {
        refused(read(&file("I64", &wide(&[0, bad]), "[2]"), &[2]), &["/f: ", "ids holds", text]);
    }
    refused(read(&file("F32", &[0; 4], "[1]"), &[1]), &["ids is F32", "expected I64"]);
    refused(of(&file("I64", &[], "[0]"), "labels", &[0]), &["missing", "labels"]);
}
