//! A run directory as it lives: killed, resumed, read while it is written, wanted by two; and what is printed when nobody reads.

use crate::cli::{Directory, SMALL, eggcorn, fails, text, works};
use crate::files::names;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A training of some steps, each of them saved.
fn arguments<'a>(data: &'a str, run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    ["train", "shakespeare-char", "--data", data, "--out", run].into_iter().chain(SMALL).chain(more.iter().copied()).collect()
}

fn start(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eggcorn"));
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

fn events(run: &str) -> Vec<Value> {
    let text = fs::read_to_string(Path::new(run).join("metrics.jsonl")).unwrap();
    assert!(text.ends_with('\n'), "the last line is whole");
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

/// What happened in a run, without what depends on the hour: steps and evaluations.
fn history(run: &str) -> Vec<Value> {
    let steady = |mut e: Value| {
        let event = e.as_object_mut().unwrap();
        for key in ["time", "tokens_per_second", "ms", "waited_ms", "mfu", "memory"] {
            event.remove(key);
        }
        e
    };
    events(run).into_iter().filter(|e| e["event"] == "step" || e["event"] == "evaluated").map(steady).collect()
}

/// The columns of the table that do not depend on the hour: step, tokens, losses, rate and norm.
fn table(run: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(run).join("metrics.csv")).unwrap();
    let steady = |l: &str| l.split(',').take(7).enumerate().filter(|c| c.0 != 1).map(|c| c.1).collect::<Vec<_>>().join(",");
    text.lines().map(steady).collect()
}

fn manifest(run: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(Path::new(run).join("checkpoint.json")).unwrap()).unwrap()
}

fn weights(run: &str) -> Vec<u8> {
    fs::read(Path::new(run).join(manifest(run)["tensors"].as_str().unwrap())).unwrap()
}

#[test]
#[cfg(unix)]
fn a_killed_run_goes_on_as_if_nothing_had_happened() {
    killed("killed", &[3, 16, 40, 21, usize::MAX]);
}

/// The same for moments by chance, many times over.
#[test]
#[cfg(unix)]
fn fuzz_runs_killed_by_chance() {
    // eight kills each
    for seed in 0..crate::running::cases(0, 13) {
        let moments = (0..8).map(|i| (llm::random(seed.into(), i) % 45) as usize + 1).chain([usize::MAX]);
        killed(&format!("chance-{seed}"), &moments.collect::<Vec<_>>());
    }
}

/// Killed again and again and resumed each time, a run ends as one that was never disturbed: the same weights and moments, the same metrics,
/// the same picture of its loss, the same sample. A moment is a number of lines printed; the last try is let live.
#[cfg(unix)]
fn killed(name: &str, moments: &[usize]) {
    let d = Directory::new(name);
    let (data, whole, killed) = (d.write("text.txt", text()), d.path("whole"), d.path("killed"));
    let sets = [
        "train.steps=120",
        "train.save_every=9",
        "train.eval_every=25",
        "train.eval_batches=2",
        "train.keep_last=2",
        "train.milestone_every=50",
        "train.sample_every=30",
        "train.sample_tokens=5",
        "train.accumulate=2",
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|s| ["--set", s]).chain(["--json"]).collect();
    works(&arguments(&data, &whole, &sets));
    for (i, lines) in moments.iter().copied().enumerate() {
        let resume: &[&str] = if Path::new(&killed).join("checkpoint.json").exists() { &["--resume"] } else { &[] };
        let args = arguments(&data, &killed, &[&sets[..], resume].concat());
        let mut child = start(&args);
        let printed = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).take(lines).count();
        if printed == lines {
            child.kill().unwrap();
        }
        let out = child.wait_with_output().unwrap();
        assert!(printed == lines || out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        if i == 2 {
            // as if it had died in the middle of a line
            let path = Path::new(&killed).join("metrics.jsonl");
            let torn = fs::read_to_string(&path).unwrap() + "{\"event\":\"step\",\"st";
            fs::write(&path, torn).unwrap();
        }
    }
    assert!(weights(&killed) == weights(&whole), "bit for bit");
    assert_eq!(history(&killed), history(&whole));
    let steps: Vec<u64> = history(&killed).iter().filter(|e| e["event"] == "step").map(|e| e["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=120).collect::<Vec<_>>());
    let directories = ["best", "step-50", "step-100", "step-117", "step-120"];
    assert!(directories.iter().all(|d| Path::new(&killed).join(d).is_dir()), "{:?}", names(Path::new(&killed)));
    for name in directories {
        let of = |run: &str| weights(&Path::new(run).join(name).display().to_string());
        assert!(of(&killed) == of(&whole), "{name}");
    }
    assert_eq!(table(&killed), table(&whole));
    for file in ["config.toml", "eggcorn-tokenizer.json", "sample.txt", "samples.txt", "loss.svg", "checkpoint.json", "best/checkpoint.json"] {
        assert!(fs::read(Path::new(&killed).join(file)).unwrap() == fs::read(Path::new(&whole).join(file)).unwrap(), "{file}");
    }
    assert!(names(Path::new(&killed)).iter().all(|n| !n.ends_with(".tmp") && n != ".eggcorn.lock"), "{:?}", names(Path::new(&killed)));
    // a finished run resumed finishes again, and its metrics stay
    works(&arguments(&data, &killed, &[&sets[..], &["--resume"]].concat()));
    assert_eq!(history(&killed), history(&whole));
}

/// Metrics are cut back to the checkpoint: what came after it is not there twice, and lines that are none are gone.
#[test]
fn metrics_are_cut_back_to_the_checkpoint() {
    let d = Directory::new("cut");
    let (data, run) = (d.write("text.txt", text()), d.path("run"));
    works(&arguments(&data, &run, &[]));
    let before = history(&run);
    let path = Path::new(&run).join("metrics.jsonl");
    let torn = fs::read_to_string(&path).unwrap().replacen('\n', "\nnot json\n\"json\"\n", 1)
        + "{\"event\":\"step\",\"step\":7,\"loss\":1}\n{\"event\":\"step\",\"step\":8,\"loss\":1}\n{\"event\":\"notice\",\"text\":\"late\"}\n{\"ev";
    fs::write(&path, torn).unwrap();
    works(&arguments(&data, &run, &["--resume"]));
    assert_eq!(history(&run), before);
    assert!(events(&run).iter().all(|e| e["event"] != "notice"));
    let count = |kind: &str| events(&run).iter().filter(|e| e["event"] == kind).count();
    assert_eq!((count("step"), count("saved"), count("evaluated"), count("ready")), (6, 1, 1, 2));
    // a link stays one, and the user's temporary names are no business of ours
    fs::rename(&path, d.0.join("elsewhere")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(d.0.join("elsewhere"), &path).unwrap();
    fs::write(Path::new(&run).join("metrics.tmp"), "mine").unwrap();
    works(&arguments(&data, &run, &["--resume"]));
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink() || !cfg!(unix));
    assert_eq!((history(&run), fs::read(Path::new(&run).join("metrics.tmp")).unwrap()), (before, b"mine".to_vec()));
}

/// Metrics that can no longer be written, as on a full disk: the training goes on, all else is saved, and it is an error. Resumed, the run has
/// what was written, without the line that was torn.
#[test]
#[cfg(target_os = "linux")]
fn metrics_that_cannot_be_written() {
    let d = Directory::new("full-metrics");
    let (data, run) = (d.write("text.txt", text()), d.path("run"));
    let sets = ["--set", "train.steps=1500", "--set", "train.save_every=100000", "--set", "train.eval_every=100000"];
    // no file may become longer than a checkpoint is, and the metrics would
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 150; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_eggcorn")])
        .args(arguments(&data, &run, &sets))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&limited.stderr);
    assert_eq!(limited.status.code(), Some(1), "{error}");
    assert!(error.contains("metrics.jsonl: metrics cannot be written") && error.contains("the training goes on"), "{error}");
    assert!(error.contains("what follows is missing") && error.contains("all else of the run is saved"), "{error}");
    assert_eq!(manifest(&run)["step"].as_u64(), Some(1500));
    let torn = fs::read_to_string(Path::new(&run).join("metrics.jsonl")).unwrap();
    let whole = torn.lines().filter(|l| l.ends_with('}')).count();
    assert!((200..1500).contains(&whole), "{whole} lines");
    works(&arguments(&data, &run, &[&sets[..], &["--resume"]].concat()));
    let steps = history(&run).iter().filter(|e| e["event"] == "step").count();
    assert_eq!(steps + 1, whole, "the first line says that it is ready");
}

/// A new run begins with empty metrics, and overwrites what a run left that died before its first checkpoint; but nobody else's files.
#[test]
fn a_new_run_overwrites_no_file_of_another_kind() {
    let d = Directory::new("foreign");
    let data = d.write("text.txt", text());
    for file in ["config.toml", "eggcorn-tokenizer.json", "metrics.jsonl", "sample.txt", "loss.svg"] {
        let run = d.path(&format!("run-{file}"));
        fs::create_dir(&run).unwrap();
        let path = Path::new(&run).join(file);
        fs::write(&path, "mine\n").unwrap();
        fails(&arguments(&data, &run, &[]), &[file, "of no run", "--out"]);
        assert_eq!((fs::read_to_string(&path).unwrap(), names(Path::new(&run))), ("mine\n".into(), vec![file.to_string()]));
    }
    let run = d.path("run");
    works(&arguments(&data, &run, &[]));
    let config = fs::read_to_string(Path::new(&run).join("config.toml")).unwrap();
    assert!(config.starts_with("# The configuration of a run"), "{config}");
    // as if it had died before its first checkpoint
    fs::remove_file(Path::new(&run).join("checkpoint.json")).unwrap();
    works(&arguments(&data, &run, &["--set", "train.lr=0.01"]));
    let steps = history(&run).iter().filter(|e| e["event"] == "step").count();
    let ready = events(&run).iter().filter(|e| e["event"] == "ready").count();
    assert_eq!((steps, ready), (6, 1), "metrics begin anew");
}

/// What fails leaves no directory behind.
#[test]
fn a_run_that_cannot_be_leaves_nothing() {
    let d = Directory::new("nothing");
    let (data, run) = (d.write("text.txt", text()), d.path("run"));
    fails(&["train", "--resume", "--out", &run, "--data", &data], &["no checkpoint"]);
    fails(&arguments(&data, &run, &["--set", "train.batch=0"]), &["batch"]);
    assert!(!Path::new(&run).exists());
}

/// Two runs cannot write into one directory: the second is told who does.
#[test]
#[cfg(unix)]
fn two_runs_cannot_share_a_directory() {
    let d = Directory::new("two");
    let (data, run) = (d.write("text.txt", text()), d.path("run"));
    let sets = ["--set", "train.steps=1000000", "--set", "train.save_every=50", "--json"];
    let mut child = start(&arguments(&data, &run, &sets));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|l| l.contains("\"saved\"")), "it trains");
    let who = format!("process {}", child.id());
    for more in [&[][..], &["--resume"]] {
        fails(&arguments(&data, &run, &[&sets[..], more].concat()), &[&run, "another training", &who, "since", "UTC", "name another --out"]);
    }
    // after kill -9 nobody holds it
    child.kill().unwrap();
    child.wait().unwrap();
    let mut child = start(&arguments(&data, &run, &[&sets[..], &["--resume"]].concat()));
    let first = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let ready: Value = serde_json::from_str(&first).unwrap();
    assert!(ready["event"] == "ready" && ready["from_step"].as_u64() >= Some(50), "{first}");
}

/// A reader beside a training that saves after every step always finds a whole checkpoint.
#[test]
#[cfg(unix)]
fn generating_beside_a_training_that_saves() {
    let d = Directory::new("beside");
    let (data, run) = (d.write("text.txt", text()), d.path("run"));
    let mut child = start(&arguments(&data, &run, &["--set", "train.steps=1000000", "--set", "train.save_every=1", "--json"]));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|l| l.contains("\"saved\"")), "it trains");
    let drain = std::thread::spawn(move || lines.count());
    let (mut steps, begin) = (std::collections::BTreeSet::new(), std::time::Instant::now());
    while steps.len() < 10 && begin.elapsed().as_secs() < 60 {
        let checkpoint = llm::open_checkpoint(Path::new(&run)).unwrap_or_else(|e| panic!("{e}"));
        steps.insert(checkpoint.manifest.step);
    }
    works(&["generate", &run, "--max-tokens", "5"]);
    child.kill().unwrap();
    child.wait().unwrap();
    drain.join().unwrap();
    assert!(steps.len() == 10, "it saved meanwhile: {steps:?}");
}

/// The file that a manifest names is gone by the time it is read: the newer manifest's is taken. A pipe in its place makes the reader wait
/// between the two.
#[test]
#[cfg(unix)]
fn a_reader_that_comes_late_reads_the_newer_checkpoint() {
    let d = Directory::new("late");
    let (data, run) = (d.write("text.txt", text()), d.path("run"));
    works(&arguments(&data, &run, &[]));
    let path = |name: &str| Path::new(&run).join(name);
    let newer = fs::read_to_string(path("checkpoint.json")).unwrap();
    fs::write(path("checkpoint.json"), newer.replace("checkpoint-6", "checkpoint-5").replace("\"step\": 6", "\"step\": 5")).unwrap();
    assert!(Command::new("mkfifo").arg(path("checkpoint-5.safetensors")).status().unwrap().success());
    let dir = PathBuf::from(&run);
    let reader = std::thread::spawn(move || llm::open_checkpoint(&dir).map(|c| c.manifest.step));
    // opened once the reader has it open, too
    let pipe = fs::File::options().write(true).open(path("checkpoint-5.safetensors")).unwrap();
    fs::write(path("checkpoint.json"), newer).unwrap();
    fs::remove_file(path("checkpoint-5.safetensors")).unwrap();
    drop(pipe);
    assert_eq!(reader.join().unwrap(), Ok(6));
}

/// A file that is gone while its manifest stays is an error, not a wait.
#[test]
fn a_checkpoint_without_its_file() {
    let d = Directory::new("gone");
    let (data, run) = (d.write("text.txt", text()), d.path("run"));
    works(&arguments(&data, &run, &[]));
    let tensors = manifest(&run)["tensors"].as_str().unwrap().to_string();
    let path = Path::new(&run).join(&tensors);
    let content = fs::read(&path).unwrap();
    fs::write(&path, [&content[..], b"x"].concat()).unwrap();
    fails(&["generate", &run], &[&tensors, "damaged", &content.len().to_string()]);
    fs::remove_file(&path).unwrap();
    fails(&["generate", &run], &[&tensors, "cannot be read"]);
    let text = fs::read_to_string(Path::new(&run).join("checkpoint.json")).unwrap();
    for bad in ["../x.safetensors", "/x.safetensors", "a\\\\x.safetensors", "x"] {
        fs::write(Path::new(&run).join("checkpoint.json"), text.replace(&tensors, bad)).unwrap();
        fails(&["generate", &run], &["manifest is damaged"]);
    }
    fs::write(Path::new(&run).join("checkpoint.json"), text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    fails(&["generate", &run], &["format 2"]);
    fs::File::create(Path::new(&run).join("checkpoint.json")).unwrap().set_len(1 << 40).unwrap();
    fails(&["generate", &run], &["checkpoint.json", "longer than 65536 bytes"]);
    fs::remove_file(Path::new(&run).join("checkpoint.json")).unwrap();
    fails(&["generate", &run], &["there is no checkpoint yet"]);
}

/// When nobody reads, training goes on and saves; commands whose result is what they print end quietly.
#[test]
#[cfg(unix)]
fn nobody_reads() {
    let d = Directory::new("nobody");
    let data = d.write("text.txt", text());
    for (name, more) in [("json", &["--json"][..]), ("plain", &[])] {
        let run = d.path(name);
        let mut child = start(&arguments(&data, &run, more));
        // the first line is read, and then the reader goes
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        reader.read_line(&mut String::new()).unwrap();
        drop(reader);
        let out = child.wait_with_output().unwrap();
        assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).as_ref()), (Some(0), ""), "{name}");
        assert_eq!((manifest(&run)["step"].as_u64(), history(&run).len()), (Some(6), 7));
        assert!(Path::new(&run).join("sample.txt").exists() && Path::new(&run).join("loss.svg").exists());
    }
    let run = d.path("json");
    for args in [&["generate", &run, "--max-tokens", "100000"][..], &["dump", "gpt2", "--stage", "kernels"], &["doctor"], &["--help"]] {
        let mut child = start(args);
        drop(child.stdout.take());
        let out = child.wait_with_output().unwrap();
        assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).as_ref()), (Some(0), ""), "{args:?}");
    }
}

fn to_full(args: &[&str]) -> (Option<i32>, String) {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_eggcorn")).args(args).stdout(full).stderr(Stdio::piped()).output().unwrap();
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

/// Results that cannot be written are an error, after all else is saved.
#[test]
#[cfg(target_os = "linux")]
fn results_that_cannot_be_written() {
    let d = Directory::new("full-output");
    let data = d.write("text.txt", text());
    for (name, more) in [("json", &["--json"][..]), ("plain", &[])] {
        let run = d.path(name);
        let (code, error) = to_full(&arguments(&data, &run, more));
        assert_eq!(code, Some(1), "{error}");
        assert!(error.contains("the work goes on") && error.contains("could not be written") && error.contains("saved in"), "{error}");
        assert_eq!(error.matches("No space left").count(), 2, "said at once and at the end: {error}");
        assert_eq!((manifest(&run)["step"].as_u64(), history(&run).len()), (Some(6), 7));
        assert!(Path::new(&run).join("sample.txt").exists() && Path::new(&run).join("loss.svg").exists());
    }
    let run = d.path("json");
    for args in [&["generate", &run, "--max-tokens", "3"][..], &["dump", "gpt2", "--stage", "built"], &["doctor"], &["doctor", "--json"], &["--help"]]
    {
        let (code, error) = to_full(args);
        assert!(code == Some(1) && error.contains("cannot be written") && !error.contains("panicked"), "{args:?}: {code:?} {error}");
    }
    // nor does an error that cannot be told become a panic
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_eggcorn")).args(["generate", "nowhere"]).stderr(full).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    // metrics that lead to a device are refused before the first step
    let metrics = Path::new(&run).join("metrics.jsonl");
    fs::remove_file(&metrics).unwrap();
    std::os::unix::fs::symlink("/dev/full", &metrics).unwrap();
    fails(&arguments(&data, &run, &["--resume"]), &["metrics.jsonl", "it is a device"]);
}

#[test]
fn prompts() {
    let d = Directory::new("prompts");
    let run = d.path("run");
    // no newline anywhere, and a mark at the start that is no text
    let data = d.write("text.txt", "\u{FEFF}".to_string() + &text());
    works(&arguments(&data, &run, &[]));
    let tokenizer = fs::read_to_string(Path::new(&run).join("eggcorn-tokenizer.json")).unwrap();
    assert!(!tokenizer.contains('\u{FEFF}') && tokenizer.contains("\"format\": 1"), "{tokenizer}");
    assert!(works(&["generate", &run, "--max-tokens", "3"]).starts_with(' '), "a space where there is no newline");
    let out = works(&["generate", &run, "--max-tokens", "0", "--prompt", "dog"]);
    assert_eq!(out, "dog\n");
    fails(&["generate", &run, "--prompt", ""], &["--prompt is empty"]);
    fails(&["generate", &run, "--prompt", "the Ω"], &["--prompt", "'Ω'", "does not occur"]);
    for t in ["-1", "NaN", "inf"] {
        fails(&["generate", &run, &format!("--temperature={t}")], &["--temperature"]);
    }
    // the recipe's model has 64 positions
    let said = |n: usize| {
        let prompt = "the quick brown fox jumps over the lazy dog. ".repeat(3)[..n].to_string();
        let out = eggcorn(&["generate", &run, "--max-tokens", "1", "--prompt", &prompt]);
        assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).starts_with(&prompt));
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    assert_eq!(said(64), "");
    assert_eq!(said(65), "notice: the prompt has 65 tokens, and the model sees 64 at once: it reads the last 64\n");
    // text with bytes that are no characters comes whole
    let bytes = d.path("bytes");
    works(&arguments(&data, &bytes, &["--set", "data.tokenizer=byte"]));
    let out = eggcorn(&["generate", &bytes, "--max-tokens", "200", "--temperature", "2", "--prompt", "é"]);
    assert!(out.status.success());
    let written = String::from_utf8(out.stdout).expect("what is written is text");
    assert!(written.starts_with('é') && written.chars().count() > 20, "{written}");
    // a byte that begins a character which does not come is shown at the end
    let several = works(&["generate", &bytes, "--max-tokens", "1", "--temperature", "1e6", "--prompt", "é", "--num-samples", "24"]);
    assert_eq!(several.chars().count(), 24 * "éx\n---\n".chars().count(), "{several:?}");
    // so does one that ends within a character: each byte is seen, as what it is or as what stands for what is none
    let mut broken = 0;
    for seed in 0..16 {
        let out = works(&["generate", &bytes, "--max-tokens", "1", "--temperature", "1000", "--prompt", "é", "--seed", &seed.to_string()]);
        let last = out.strip_prefix('é').and_then(|t| t.strip_suffix('\n')).unwrap_or_else(|| panic!("{out:?}"));
        assert_eq!(last.chars().count(), 1, "{out:?}");
        broken += usize::from(last == "\u{FFFD}");
    }
    assert!((1..16).contains(&broken), "{broken} of 16 end within a character");
    // a text whose ids are the same, of other characters
    let other = d.write("other.txt", text().chars().map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c }).collect::<String>());
    fails(&["train", "--resume", "--out", &run, "--data", &other], &["another text", "--data"]);
}

/// Texts that are none, as they are named on the command line.
#[test]
fn texts_on_the_command_line() {
    let d = Directory::new("cli-texts");
    let (data, run) = (d.write("text.txt", text()), d.path("run"));
    fails(&arguments("-", &run, &[]), &["-: ", "standard input"]);
    fails(&arguments(&d.path(""), &run, &[]), &["it is a directory"]);
    fails(&arguments(&data, &run, &["--data", &data]), &["--data", "text.txt is named twice", "weight"]);
    let help = works(&["train", "--help"]);
    assert!(help.contains("byte order mark") && help.contains("\\r\\n"), "{help}");
    assert!(!PathBuf::from(&run).exists());
}
