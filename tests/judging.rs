//! Questions with answers: files of every task, the seam of tokens, figures of log-probabilities, translations.

use crate::common::Directory;
use llm::evaluate::{Corpus, Examples, Mean, Question, Sample, Seam, Summary, Task, groups, questions};
use llm::{Kind, Specials, Tokenizer};
use std::path::Path;

fn asked(task: &str, path: &str, examples: &Examples) -> Vec<Question> {
    questions(&Task::open(task).unwrap(), Path::new(path), examples, None).unwrap()
}

fn pair(question: &Question, i: usize) -> (&str, &str) {
    (&question.arguments[i].0, &question.arguments[i].1)
}

/// What lm-evaluation-harness 0.4.13 makes of such lines.
#[test]
fn tasks_ask_as_the_harness_does() {
    let d = Directory::new("tasks");
    let none = Examples::default();
    let hellaswag = d.write(
        "h.jsonl",
        r#"{"ind": 4, "activity_label": "Baking", "ctx_a": "A [step] man  [title] Bakes.", "ctx_b": "tHE Cat", "label": "1", "endings": [" is [substeps] red.", "sits", "é", "runs  away"]}"#,
    );
    let q = &asked("hellaswag", &hellaswag, &none)[0];
    assert_eq!(pair(q, 0), ("Baking: A man . Bakes. The cat", " is red."));
    assert_eq!((q.choices.clone(), q.target), (["is red.", "sits", "é", "runs away"].map(String::from).to_vec(), 1));
    let arc = d.write(
        "arc.jsonl",
        concat!(
            r#"{"id": "a", "question": "Which?", "choices": {"text": ["x", "y", "z"], "label": ["1", "2", "3"]}, "answerKey": "3"}"#,
            "\n\n",
            r#"{"id": "b", "question": {"stem": "Who?", "choices": [{"text": "me", "label": "A"}, {"text": "you", "label": "B"}]}, "answerKey": "B"}"#
        ),
    );
    let all = asked("arc", &arc, &none);
    assert_eq!((pair(&all[0], 2), all[0].target, all[0].document.line), (("Question: Which?\nAnswer:", " z"), 2, 1));
    assert_eq!((pair(&all[1], 0), all[1].target, all[1].document.line), (("Question: Who?\nAnswer:", " me"), 1, 3));
    let piqa = d.write(
        "valid.jsonl",
        "{\"goal\": \"To sit\", \"sol1\": \"chair\", \"sol2\": \"tree\"}\n{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\"}\n",
    );
    d.write("valid-labels.lst", "0\n1\n");
    let all = asked("piqa", &piqa, &none);
    assert_eq!((pair(&all[0], 1), all[0].target, all[1].target), (("Question: To sit\nAnswer:", " tree"), 0, 1));
    let winogrande = d.write("w.jsonl", r#"{"sentence": "Ann beat Bea, so _ won _ it. ", "option1": "Ann", "option2": "Bea", "answer": "2"}"#);
    let q = &asked("winogrande", &winogrande, &none)[0];
    assert_eq!([pair(q, 0), pair(q, 1)], [("Ann beat Bea, so Ann", " won _ it."), ("Ann beat Bea, so Bea", " won _ it.")]);
    assert_eq!((q.target, q.choices[1].as_str()), (1, "Ann beat Bea, so Bea"));
    let blimp = d.write("p.jsonl", r#"{"sentence_good": "I am.", "sentence_bad": "I are.", "UID": "agreement"}"#);
    let q = &asked("blimp", &blimp, &none)[0];
    assert_eq!((pair(q, 1), q.target, q.group.as_deref()), (("", " I are."), 0, Some("agreement")));
}

#[test]
fn examples_stand_before_a_question() {
    let d = Directory::new("examples");
    std::fs::create_dir(d.0.join("dev")).unwrap();
    std::fs::create_dir(d.0.join("test")).unwrap();
    d.write("dev/high_school_art_dev.csv", "D1?,a1,b1,c1,d1,C\n\"D2, \"\"quoted\"\"\",a,b,c,d,A\n");
    let test = d.write("test/high_school_art_test.csv", " Q? ,w,x,y,z,B\nR?,1,2,3,4,D\n");
    let two = Examples { count: 2, ..Examples::default() };
    let all = asked("mmlu", &test, &two);
    let start = "The following are multiple choice questions (with answers) about high school art.\n\n\
                 D1?\nA. a1\nB. b1\nC. c1\nD. d1\nAnswer: C\n\nD2, \"quoted\"\nA. a\nB. b\nC. c\nD. d\nAnswer: A\n\n";
    assert_eq!(pair(&all[0], 1), (format!("{start}Q?\nA. w\nB. x\nC. y\nD. z\nAnswer:").as_str(), " B"));
    assert_eq!((all[0].target, all[1].target, all[1].group.as_deref()), (1, 3, Some("high_school_art")));
    // of the file itself: never the question, and drawn anew for each
    let lines: String = (0..8).map(|i| format!("{{\"goal\": \"g{i}\", \"sol1\": \"a{i}\", \"sol2\": \"b{i}\", \"label\": {}}}\n", i % 2)).collect();
    let piqa = d.write("own.jsonl", lines);
    let first = asked("piqa", &piqa, &two);
    assert_eq!(first[0].arguments[0].0, "Question: g1\nAnswer: b1\n\nQuestion: g2\nAnswer: a2\n\nQuestion: g0\nAnswer:");
    assert_eq!(first[5].arguments[0].0, "Question: g0\nAnswer: a0\n\nQuestion: g1\nAnswer: b1\n\nQuestion: g5\nAnswer:");
    let drawn = |seed| asked("piqa", &piqa, &Examples { count: 7, seed: Some(seed), ..Examples::default() });
    let (one, other) = (drawn(1), drawn(2));
    assert!(one == drawn(1) && one != other);
    for (i, q) in one.iter().enumerate() {
        assert_eq!(q.arguments[0].0.matches(&format!("Question: g{i}\n")).count(), 1, "each of the others once");
        assert_eq!(q.arguments[0].0.matches("Question:").count(), 8);
    }
    // where a text differs in its beginning, an example is the right one
    let w = |i: usize| format!("{{\"sentence\": \"s{i} _ ends{i}\", \"option1\": \"A\", \"option2\": \"B\", \"answer\": \"{}\"}}\n", 1 + i % 2);
    let winogrande = d.write("w.jsonl", [w(0), w(1)].concat());
    let q = asked("winogrande", &winogrande, &Examples { count: 1, ..Examples::default() });
    assert_eq!(pair(&q[0], 1), ("s1 B ends1\n\ns0 B", " ends0"));
    let many = questions(&Task::open("piqa").unwrap(), Path::new(&piqa), &Examples { count: 8, ..Examples::default() }, None);
    assert!(many.unwrap_err().to_string().contains("there are 7 documents for 8 examples"));
}

/// Errors name file, line and what is wrong.
#[test]
fn what_is_no_task_is_refused() {
    let d = Directory::new("no-task");
    let fails = |made: llm::Result<Vec<Question>>, words: &[&str]| {
        let error = made.unwrap_err().to_string();
        assert!(words.iter().all(|w| error.contains(w)), "{words:?}: {error}");
    };
    let with = |task: &str, file: &str, text: &str| questions(&Task::open(task)?, Path::new(&d.write(file, text)), &Examples::default(), None);
    fails(with("piqa", "empty.jsonl", "\n\n"), &["empty.jsonl", "no document"]);
    fails(
        with("piqa", "torn.jsonl", "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\", \"label\": 0}\n{\"goal"),
        &["torn.jsonl:2", "no object of JSON"],
    );
    fails(
        with("piqa", "far.jsonl", "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\", \"label\": 2}"),
        &["far.jsonl:1", "2 is no number or text", "\"a\", \"b\""],
    );
    fails(with("piqa", "lacks.jsonl", "{\"goal\": \"g\", \"sol1\": \"a\", \"label\": 1}"), &["lacks.jsonl:1", "choices", "null"]);
    fails(
        with("piqa", "empty-answer.jsonl", "{\"goal\": \"g\", \"sol1\": \"\", \"sol2\": \"b\", \"label\": 1}"),
        &["empty-answer.jsonl:1", "an answer is empty"],
    );
    fails(with("mmlu", "x_test.csv", "q,a,b,c,d,A\nq,a,b,c,A\n"), &["x_test.csv:2", "5 cells", "expected 6"]);
    fails(with("mmlu", "y_test.csv", "q,a,b,c,d,E\n"), &["y_test.csv:1", "\"E\" is no number or text"]);
    d.write("short-labels.lst", "1\n");
    let two = "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\"}\n".repeat(2);
    fails(with("piqa", "short.jsonl", &two), &["short.jsonl:2", "no label", "short-labels.lst has 1 lines"]);
    fails(with("hellaswagg", "x", ""), &["no task hellaswagg", "did you mean hellaswag?"]);
    let own = |name: &str, text: &str| with(&d.write(name, text), "a.jsonl", "{\"a\": \"x\", \"b\": [\"y\"]}");
    fails(own("field.toml", "text = \"\"\nchoices = \"b\"\ntarget = \"0\"\nchoice = 1\n"), &["field.toml", "unknown field `choice`", "line 4"]);
    fails(own("half.toml", "text = \"\"\ntarget = \"0\"\n"), &["half.toml", "text and choices, or contexts and continuation"]);
    fails(own("one.toml", "text = \"\"\nchoices = \"b\"\ntarget = \"0\"\n"), &["a.jsonl:1", "two texts at least"]);
    fails(
        own(
            "loop.toml",
            "text = \"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}\"\nchoices = \"[a, a]\"\ntarget = \"0\"\n",
        ),
        &["a.jsonl:1", "text", "fuel"],
    );
    fails(own("syntax.toml", "text = \"{{ a\"\nchoices = \"[a, a]\"\ntarget = \"0\"\n"), &["a.jsonl:1", "syntax error"]);
    for (name, _) in Task::all() {
        Task::open(name).unwrap();
    }
}

/// Spaces at the end of what stands before go to what follows, and both are encoded together.
#[test]
fn the_seam_is_as_in_a_text() {
    let text = "the cat sat on the mat and the hat ".repeat(20);
    let t = Tokenizer::of(Kind::Bpe, &text).unwrap();
    let encode = |text: &str| t.encode_with(text, Specials::Token).unwrap();
    let seam = Seam::new(&t, 3, 9);
    for (context, continuation) in
        [("the cat", " sat"), ("the cat ", "sat"), ("the  \n", "cat on"), ("the c", "at sat on"), ("the cat sat on the", " mat and the hat the")]
    {
        let (request, cut) = seam.request(context, continuation).unwrap();
        let whole = encode(&format!("{context}{continuation}"));
        assert_eq!(request.tokens, whole[cut..]);
        assert_eq!(request.asked, whole.len() - encode(context.trim_end()).len(), "{context:?} {continuation:?}");
        assert_eq!(cut, whole.len().saturating_sub(10));
    }
    // nothing before: the token for that, which is not asked where the text begins with it itself
    assert_eq!(seam.request("", " sat").unwrap().0.tokens, [vec![3], encode(" sat")].concat());
    let own = Seam::new(&t, encode("the cat")[0], 9).request("", "the cat").unwrap().0;
    assert_eq!((own.tokens, own.asked), (encode("the cat"), encode("the cat").len() - 1));
    // of spaces alone everything is asked
    let spaces = seam.request("  ", "sat").unwrap().0;
    assert_eq!((spaces.tokens.clone(), spaces.asked), ([vec![3], encode("  sat")].concat(), encode("  sat").len()));
    let error = |context: &str, continuation: &str| seam.request(context, continuation).unwrap_err().to_string();
    assert!(error("the", "").contains("adds no token"));
    // the pieces of what stands before are as many as of the whole
    assert!(encode("the c").len() == encode("the cat sat").len() && error("the c", "at sat").contains("adds no token"));
    assert!(error("the", &" hat the".repeat(9)).contains("the model reads 9"));
}

fn sample(choices: &[&str], target: usize, log_probabilities: &[f64], group: &str) -> Sample {
    let (choices, group) = (choices.iter().map(|c| c.to_string()).collect(), Some(group.to_string()));
    Sample { task: "t".into(), group, choices, target, log_probabilities: log_probabilities.to_vec(), greedy: vec![false; log_probabilities.len()] }
}

/// By hand: characters and bytes differ, equals, one question alone.
#[test]
fn figures_of_log_probabilities() {
    let all = [
        sample(&["ab", "abcd"], 1, &[-3.0, -4.0], "x"),
        sample(&["éé", "abc"], 0, &[-4.0, -5.0], "y"),
        sample(&["a", "b", "c"], 0, &[-1.0, -1.0, -2.0], "x"),
        sample(&["a", "b"], 1, &[-1.0, -1.0], "x"),
    ];
    let s = Summary::of(&all.iter().collect::<Vec<_>>());
    // as it is: 0, 0, 0, 0; a character: 1, 1, 0, 0; a byte: 1, 0, 0, 0
    assert_eq!((s.acc.mean, s.acc_norm.mean, s.acc_bytes.mean), (0.5, 0.5, 0.75));
    let error = (4.0 * 0.25 / 3.0f64).sqrt() / 2.0;
    assert!((s.acc.error.unwrap() - error).abs() < 1e-15);
    assert!((s.bits_per_byte - 10.0 / 2f64.ln() / 10.0).abs() < 1e-15, "{}", s.bits_per_byte);
    assert!((s.chance - (0.5 + 0.5 + 1.0 / 3.0 + 0.5) / 4.0).abs() < 1e-15);
    assert_eq!((s.questions, s.majority), (4, Some(0.5)));
    assert_eq!(Summary::of(&[&all[0], &all[3]]).majority, None, "one number alone says nothing");
    let by = groups(&all);
    assert_eq!(by.iter().map(|(name, all)| (*name, all.len())).collect::<Vec<_>>(), [("x", 3), ("y", 1)]);
    assert_eq!(Mean::of(&[1.0]), Mean { mean: 1.0, error: None });
}

#[test]
fn samples_are_read_as_they_are_written() {
    let d = Directory::new("samples");
    let piqa = d.write("a.jsonl", "{\"goal\": \"g\", \"sol1\": \"aé\", \"sol2\": \"b\", \"label\": 1}\n");
    let q = &asked("piqa", &piqa, &Examples::default())[0];
    let score = |p, greedy| llm::evaluate::Score { log_probability: p, greedy };
    let sample = Sample::of("piqa", q, &[score(-1.0 / 3.0, true), score(-2e-17, false)]);
    let line = sample.line(0, q, &[2, 1]);
    assert!(line.contains("\"place\":\"") && line.contains("a.jsonl:1\"") && line.contains("Question: g\\nAnswer:"), "{line}");
    assert_eq!(Sample::read(Path::new(&d.write("s.jsonl", line + "\n\n"))).unwrap(), [sample]);
    // as lm-evaluation-harness logs them
    let harness = r#"{"doc_id": 0, "doc": {}, "target": "1", "arguments": {"gen_args_0": {"arg_0": "Q", "arg_1": " one"}, "gen_args_1": {"arg_0": "Q", "arg_1": "  two"}}, "resps": [], "filtered_resps": [["-1.5", "False"], ["-2.25", "True"]]}"#;
    let read = Sample::read(Path::new(&d.write("samples_x.jsonl", harness))).unwrap().remove(0);
    assert_eq!((read.task.as_str(), read.choices, read.target), ("samples_x", vec!["one".to_string(), " two".into()], 1));
    assert_eq!((read.log_probabilities, read.greedy), (vec![-1.5, -2.25], vec![false, true]));
    let fails = |text: &str, words: &[&str]| {
        let error = Sample::read(Path::new(&d.write("bad.jsonl", text))).unwrap_err().to_string();
        assert!(words.iter().all(|w| error.contains(w)), "{words:?}: {error}");
    };
    fails("", &["bad.jsonl", "no sample in it"]);
    fails("{", &["bad.jsonl:1", "no sample"]);
    fails(
        "{\"choices\": [\"a\", \"b\"], \"logprobs\": [-1], \"is_greedy\": [true], \"target\": 0}",
        &["bad.jsonl:1", "1 log-probabilities for 2 answers"],
    );
    fails("{\"choices\": [\"a\", \"b\"], \"logprobs\": [-1, \"NaN\"], \"is_greedy\": [true, true], \"target\": 0}", &["is no number"]);
    fails("{\"choices\": [\"a\", \"b\"], \"logprobs\": [-1, -2], \"is_greedy\": [true, true], \"target\": 2}", &["the target 2 is none of the 2"]);
}

/// Numbers of sacreBLEU 2.6.0.
#[test]
fn translations_are_judged_as_by_sacrebleu() {
    let own = |all: &[&str]| all.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let h = own(&[
        "The cat sat on the mat.",
        "It's a test - with 3.5% of 1,000 things, isn't it?",
        "Der Hund (groß) läuft schnell!",
        "",
        "same words here",
        "A &quot;quoted&quot; line &amp; more <skipped> 10-year-old",
        "hello world",
        "word",
    ]);
    let one = own(&[
        "The cat is sitting on the mat.",
        "It is a test, with 3.5 % of 1,000 things; isn't it?",
        "Der große Hund läuft sehr schnell!",
        "something",
        "same words here",
        "A \"quoted\" line & more 10-year-olds",
        "Hello, world!",
        "other",
    ]);
    let two = own(&[
        "A cat sat on a mat.",
        "That's a test with 3.5% of 1000 things.",
        "Ein Hund läuft.",
        "",
        "these are the same words here",
        "One quoted line and more",
        "hello the world",
        "word word",
    ]);
    let near = |have: f64, want: f64| assert!((have - want).abs() < 1e-12 * want.max(1.0), "{have} and {want}");
    for (references, bleu, chrf, line) in [
        (
            vec![one.clone()],
            49.26619049670227,
            [56.84417031542585, 58.127768994471616, 55.82317521844452],
            "BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp = 49.27 80.0/60.5/46.9/37.0 (BP = 0.915 ratio = 0.918 hyp_len = 45 ref_len = 49)",
        ),
        (
            vec![one, two],
            55.751004646818664,
            [58.02043514233625, 59.62734906935295, 56.90544060568106],
            "BLEU|nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp = 55.75 86.7/65.8/50.0/37.0 (BP = 0.978 ratio = 0.978 hyp_len = 45 ref_len = 46)",
        ),
    ] {
        let corpus = Corpus::new(&h, &references).unwrap();
        near(corpus.bleu().score, bleu);
        assert_eq!(corpus.bleu().to_string(), line);
        (0..3).for_each(|words| near(corpus.chrf(words).score, chrf[words]));
        assert!(corpus.chrf(2).to_string().starts_with(&format!("chrF2++|nrefs:{}|case:mixed|eff:yes|nc:6|nw:2|space:no = ", references.len())));
    }
    for (h, r, want) in [
        ("a b", "a b", [0.0, 100.0, 100.0]),
        ("the the the", "the cat", [0.0, 19.689903800721968, 20.45108784141328]),
        ("x", "y", [0.0; 3]),
        ("one two three four", "one two three five six seven", [36.06452879987789, 49.869244048447165, 49.53904978911776]),
    ] {
        let (h, r) = (own(&[h]), [own(&[r])]);
        let corpus = Corpus::new(&h, &r).unwrap();
        [corpus.bleu().score, corpus.chrf(0).score, corpus.chrf(2).score].into_iter().zip(want).for_each(|(have, want)| near(have, want));
    }
    assert!(Corpus::new(&h, &[own(&["a"])]).err().unwrap().to_string().contains("8 hypotheses, and 1 references in number 1"));
    assert!(Corpus::new(&[], &[]).is_err() && Corpus::new(&h, &[]).is_err());
}
