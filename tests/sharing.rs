//! Parameters that several sessions hold: one copy, in turns, of one type.

use codegen::Program;
use ir::Graph;
use runtime::{Device, Session};

fn graph(text: &str) -> Graph {
    text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn cpu() -> Device {
    Device::open("cpu", 2).unwrap()
}

/// w ← w + x, with something of its own beside.
const WRITES: &str =
    "main(%0 x: f32[4]) {\n  @w : f32[4]\n  @own : f32[4]\n  %1 = add @w, %0 : f32[4]\n  %2 = add @own, 1.0 : f32[4]\n  return @w=%1, @own=%2\n}\n";
/// y = 2 w + own, where own is another session's own.
const READS: &str =
    "main(%0 x: f32[4]) {\n  @mine : f32[4]\n  @w : f32[4]\n  %1 = add @w, @w : f32[4]\n  %2 = add %1, @mine : f32[4]\n  return y=%2\n}\n";

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// A session that writes w.
pub fn writer(device: &Device) -> Session {
    Session::new(&graph(WRITES), device.clone()).unwrap()
}

/// A session that reads the w of another.
pub fn reader_of(device: &Device, writer: &Session) -> Result<Session, String> {
    Session::sharing(&graph(READS), device.clone(), None, writer)
}

#[cfg(feature = "llvm")]
#[test]
fn on_the_processor() {
    what_one_writes_the_other_sees(&cpu());
}

/// What either session writes the other sees, whether by running or by being set; what only one has stays its own.
pub fn what_one_writes_the_other_sees(device: &Device) {
    for adopts in [false, true] {
        let mut writer = writer(device);
        writer.fill_param("w", |w| w.copy_from_slice(&[1.0, 2.0, 3.0, 4.0])).unwrap();
        let mut reader = if adopts {
            let mut r = Session::new(&graph(READS), device.clone()).unwrap();
            // its pointers are to memory of its own until then
            r.run().unwrap();
            r.adopt_params(&writer).unwrap();
            r
        } else {
            reader_of(device, &writer).unwrap()
        };
        reader.fill_param("mine", |m| m.fill(0.5)).unwrap();
        writer.set_f32("x", &[10.0; 4]).unwrap();
        for step in 1..=3 {
            writer.run().unwrap();
            reader.run().unwrap();
            let want: Vec<f32> = (1..=4).map(|i| 2.0 * (i as f32 + 10.0 * step as f32) + 0.5).collect();
            assert_eq!(reader.output("y").unwrap().f32s()[..4], want, "step {step}");
            reader.run_checked().unwrap();
            assert_eq!(reader.output("y").unwrap().f32s()[..4], want);
        }
        assert_eq!(reader.param("w").unwrap(), writer.param("w").unwrap());
        reader.fill_param("w", |w| w.fill(7.0)).unwrap();
        assert_eq!(f32s(&writer.param("w").unwrap()), [7.0; 4]);
        let shown = writer.show_params(|all| all.iter().map(|b| b.to_vec()).collect::<Vec<_>>()).unwrap();
        let names: Vec<&str> = writer.params().map(|p| p.0).collect();
        for (name, bytes) in names.iter().zip(shown) {
            assert_eq!(bytes, writer.param(name).unwrap(), "{name}");
        }
        // the one that allocated it may go first
        drop(writer);
        reader.run().unwrap();
        assert_eq!(reader.output("y").unwrap().f32s()[..4], [14.5; 4]);
    }
}

/// Adopting the same again changes nothing; adopting another's leaves the first alone.
#[cfg(feature = "llvm")]
#[test]
fn who_adopts_another_leaves_the_first() {
    let writer = |x: f32| {
        let mut s = Session::new(&graph(WRITES), cpu()).unwrap();
        s.fill_param("w", |w| w.fill(x)).unwrap();
        s
    };
    let (a, b) = (writer(1.0), writer(2.0));
    let mut reader = Session::sharing(&graph(READS), cpu(), None, &a).unwrap();
    for (from, want) in [(&a, 2.0), (&a, 2.0), (&b, 4.0), (&a, 2.0)] {
        reader.adopt_params(from).unwrap();
        reader.run().unwrap();
        assert_eq!(reader.output("y").unwrap().f32s()[..4], [want; 4]);
    }
    assert_eq!((f32s(&a.param("w").unwrap()), f32s(&b.param("w").unwrap())), (vec![1.0; 4], vec![2.0; 4]));
}

/// Bytes that are shared are counted by the session that allocated them.
#[cfg(feature = "llvm")]
#[test]
fn shared_bytes_are_counted_once() {
    let writer = Session::new(&graph(WRITES), cpu()).unwrap();
    let (alone, shared) = (Session::new(&graph(READS), cpu()).unwrap(), Session::sharing(&graph(READS), cpu(), None, &writer).unwrap());
    assert_eq!(alone.bytes() - shared.bytes(), 16);
    let mut late = Session::new(&graph(READS), cpu()).unwrap();
    late.adopt_params(&writer).unwrap();
    late.adopt_params(&writer).unwrap();
    assert_eq!(late.bytes(), shared.bytes());
    // its own plan: what goes in and out, both parameters, the arena and scratch
    let scratch = alone.bytes() - alone.program().bytes();
    assert_eq!(alone.program().bytes(), Program::bytes(alone.program()));
    assert_eq!(shared.bytes(), 16 + 16 + 16 + alone.program().arena_bytes() + scratch);
}

/// Who needs every weight of another gets an error that names the one that is not there.
#[cfg(feature = "llvm")]
#[test]
fn a_weight_that_is_not_there_is_named() {
    let writer = Session::new(&graph(WRITES), cpu()).unwrap();
    let error = Session::sharing_whole(&graph(READS), cpu(), None, &writer).err().unwrap();
    assert!(error.contains("parameter mine: f32[4]") && error.contains("same model"), "{error}");
    let whole = graph(&READS.replace("@mine", "@own"));
    assert!(Session::sharing_whole(&whole, cpu(), None, &writer).is_ok());
    // what is kept beside weights is each session's own
    assert!(Session::sharing_whole(&graph(&READS.replace("@mine", "@past.w")), cpu(), None, &writer).is_ok());
}

/// One path of two types is an error that names both, and nothing is taken over.
#[cfg(feature = "llvm")]
#[test]
fn one_path_has_one_type() {
    let other = READS.replace("@w : f32[4]", "@w : f32[1]").replace("add @w, @w : f32[4]", "add @w, %0 : f32[4]");
    let mut writer = Session::new(&graph(WRITES), cpu()).unwrap();
    let error = Session::sharing(&graph(&other), cpu(), None, &writer).err().unwrap();
    assert!(error.contains("parameter w is f32[1]") && error.contains("f32[4]"), "{error}");
    let mut reader = Session::new(&graph(&other.replace("@mine", "@own")), cpu()).unwrap();
    reader.fill_param("own", |x| x.fill(3.0)).unwrap();
    assert!(reader.adopt_params(&writer).unwrap_err().contains("parameter w is f32[1]"));
    writer.fill_param("own", |x| x.fill(9.0)).unwrap();
    assert_eq!(f32s(&reader.param("own").unwrap()), [3.0; 4], "nothing was taken over");
}

/// Sessions on several threads that write and read the same parameters wait for each other: no step is lost, none is seen half done.
#[cfg(feature = "llvm")]
#[test]
fn sessions_on_several_threads_take_turns() {
    let n = 4096;
    let size = |text: &str| graph(&text.replace("[4]", &format!("[{n}]")));
    let mut first = Session::new(&size(WRITES), cpu()).unwrap();
    first.fill_param("w", |w| w.fill(0.0)).unwrap();
    let mut writers =
        vec![Session::sharing(&size(WRITES), cpu(), None, &first).unwrap(), Session::sharing(&size(WRITES), cpu(), None, &first).unwrap()];
    let mut reader = Session::sharing(&size(READS), cpu(), None, &first).unwrap();
    writers.push(first);
    let steps = 100;
    std::thread::scope(|s| {
        for w in &mut writers {
            s.spawn(|| {
                w.set_f32("x", &vec![1.0; n]).unwrap();
                (0..steps).for_each(|_| w.run().unwrap());
            });
        }
        for _ in 0..steps {
            reader.run().unwrap();
            let y = &reader.output("y").unwrap().f32s()[..n];
            assert!(y.iter().all(|x| *x == y[0]), "a step is seen whole");
            let w = f32s(&reader.param("w").unwrap());
            assert!(w.iter().all(|x| *x == w[0]));
        }
    });
    reader.run().unwrap();
    assert_eq!(reader.output("y").unwrap().f32s()[0], 2.0 * 3.0 * steps as f32);
}

/// What does not fit is an error, not a panic: lengths, names, types.
#[cfg(feature = "llvm")]
#[test]
fn what_does_not_fit_is_an_error() {
    let mut s = Session::new(&graph(WRITES), cpu()).unwrap();
    for len in [0, 3, 5] {
        assert!(s.set_f32("x", &vec![0.0; len]).unwrap_err().contains("input x is f32[4]"));
        assert!(s.set_param("w", &vec![0; len * 4]).unwrap_err().contains("parameter w is f32[4]"));
    }
    assert!(s.set_param("w", &[0; 15]).is_err() && s.set_param("w", &[0; 16]).is_ok());
    assert!(s.set_i32("x", &[0; 4]).unwrap_err().contains("i32"));
    assert!(s.set_f32("z", &[0.0; 4]).unwrap_err().contains("no input z"));
    assert!(s.param("z").unwrap_err().contains("no parameter z") && s.fill_param("z", |_| {}).is_err());
    assert!(s.output("w").is_none() && s.output("@w").is_none(), "state is read as the parameter it is");
    // zero before anything was set or run
    let reader = Session::new(&graph(READS), cpu()).unwrap();
    assert_eq!(reader.output("y").unwrap().f32s()[..4], [0.0; 4]);
    let short = "main(%0 x: f32[3]) {\n  @h : bf16[3]\n  %1 = cast[f32] @h : f32[3]\n  %2 = add %1, %0 : f32[3]\n  return y=%2\n}\n";
    let mut s = Session::new(&graph(short), cpu()).unwrap();
    assert!(s.fill_param("h", |_| {}).unwrap_err().contains("not f32"));
    s.set_param("h", &[0x80, 0x3F, 0, 0x40, 0x40, 0x40]).unwrap();
    s.run().unwrap();
    assert_eq!(s.output("y").unwrap().f32s()[..3], [1.0, 2.0, 3.0]);
}
