//! A command that says what answers are worth: it reads a line of JSON an answer, and writes a line with a number each.

use super::Answer;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A command that runs as long as the training.
pub struct Command {
    text: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// The last of what it complained of.
    said: Arc<Mutex<Vec<u8>>>,
    /// What hears it.
    listening: JoinHandle<()>,
    limit: Duration,
}

/// Bytes of its output that an error shows.
const SHOWN: usize = 2000;
/// Bytes of a line that it may write.
const LINE: u64 = 1 << 20;

impl Command {
    /// Starts it by the shell; it has so long for the answers of a step.
    pub fn start(text: &str, limit: Duration) -> Result<Command> {
        let piped = || Stdio::piped();
        let child = std::process::Command::new("sh").args(["-c", text]).stdin(piped()).stdout(piped()).stderr(piped()).spawn();
        let mut child = child.map_err(|e| Error(format!("policy.reward_command: {text}: {e}")))?;
        let said = Arc::default();
        let lines = lines(child.stdout.take().expect("it is piped"));
        let listening = listen(child.stderr.take().expect("it is piped"), &said);
        Ok(Command { text: text.into(), input: child.stdin.take(), child, lines, said, listening, limit })
    }

    /// What each answer is worth. Fails where the command ends, takes too long, or writes what is no number.
    pub fn of(&mut self, answers: &[Answer]) -> Result<Vec<f64>> {
        let asked: String = answers.iter().map(|a| format!("{}\n", json!({"prompt": a.prompt, "completion": a.text, "answer": a.right}))).collect();
        self.write(asked)?;
        let until = Instant::now() + self.limit;
        (0..answers.len()).map(|i| self.one(i, answers.len(), until)).collect()
    }

    /// Writes beside, so that a command that reads nothing is waited for no longer than one that writes nothing.
    fn write(&mut self, asked: String) -> Result<()> {
        let mut input = self.input.take().ok_or_else(|| self.fail("it was asked again after it failed"))?;
        let (to, from) = channel();
        let writing = std::thread::Builder::new().name("reward".into()).spawn(move || {
            let written = input.write_all(asked.as_bytes()).and_then(|()| input.flush());
            // nobody listens any more where it took too long
            let _ = to.send(written.map(|()| input));
        });
        writing.map_err(|e| Error(format!("no thread can be started that asks the reward: {e}")))?;
        match from.recv_timeout(self.limit) {
            Ok(Ok(input)) => self.input = Some(input),
            Ok(Err(e)) => return Err(self.fail(&format!("it reads no answers: {e}"))),
            Err(_) => return Err(self.fail(&format!("it read no answers in {:?}; a larger policy.reward_seconds gives it longer", self.limit))),
        }
        Ok(())
    }

    fn one(&mut self, number: usize, all: usize, until: Instant) -> Result<f64> {
        let line = match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                let (limit, n) = (self.limit, number);
                return Err(self.fail(&format!("it wrote {n} of {all} rewards in {limit:?}; a larger policy.reward_seconds gives it longer")));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(self.fail(&format!("it ended after {number} of {all} rewards"))),
        };
        let value: Option<Value> = serde_json::from_str(line.trim()).ok();
        let reward = value.as_ref().and_then(|v| v.as_f64().or(v["reward"].as_f64())).filter(|r| r.is_finite());
        reward.ok_or_else(|| {
            let shown: String = line.trim_end().chars().take(200).collect();
            self.fail(&format!("it wrote {shown:?} for the reward of answer {}: expected a number, or {{\"reward\": 0.5}}", number + 1))
        })
    }

    /// What went wrong, how it ended, and what it complained of.
    fn fail(&mut self, why: &str) -> Error {
        // what it complained of as it ended comes a moment later
        let mut ended = None;
        for _ in 0..20 {
            ended = self.child.try_wait().ok().flatten();
            if ended.is_some() && self.listening.is_finished() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let ended = ended.map_or(String::new(), |status| format!(" ({status})"));
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said = String::from_utf8_lossy(&said);
        let said = if said.trim().is_empty() { String::new() } else { format!("\nwhat it says:\n{}", said.trim_end()) };
        Error(format!("policy.reward_command: {}: {why}{ended}{said}", self.text))
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        // it is to end with its input; one that does not is ended
        self.input = None;
        std::thread::sleep(Duration::from_millis(1));
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The lines that a command writes, as they come.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (to, lines) = channel();
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let mut line = vec![];
            match from.by_ref().take(LINE).read_until(b'\n', &mut line) {
                Ok(n) if n > 0 => {}
                _ => return,
            }
            if to.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    lines
}

/// Keeps the end of what a command complains of.
fn listen(mut from: impl Read + Send + 'static, said: &Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    let said = said.clone();
    std::thread::spawn(move || {
        let mut piece = [0; 1024];
        while let Ok(n) = from.read(&mut piece) {
            if n == 0 {
                return;
            }
            let mut all = said.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(&piece[..n]);
            let over = all.len().saturating_sub(SHOWN);
            all.drain(..over);
        }
    })
}
