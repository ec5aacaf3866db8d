//! A program on a device: its state stays there, a step's launches follow one another without waiting.

use crate::backend::{Backend, Fault, Held};
use crate::finite;
use crate::memory::Block;
use codegen::gpu::{BINDING, Device, Entry, Memory, Recording, Source};
use codegen::{Address, Call, Kernel, Program, Region};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct Gpu {
    /// The device that was opened, and a queue of its own on it.
    opened: Arc<Device>,
    device: Device,
    calls: Vec<Call>,
    /// One a call; made again when a parameter's memory is another.
    entries: Option<Vec<Entry>>,
    repeat: Repeat,
    /// One a kernel.
    sources: Vec<Source>,
    inputs: Vec<(Block, Memory)>,
    params: Vec<Memory>,
    outputs: Vec<Option<(Block, Memory)>>,
    arena: Memory,
}

/// How the launches of a run are repeated.
enum Repeat {
    /// Kernels have not all been compiled yet.
    First,
    /// The next run is recorded.
    Second,
    /// As one submission.
    Recorded(Recording),
    /// One by one, because the device would not record.
    Refused,
}

impl Gpu {
    /// `given` has, for each parameter, memory to use instead of new.
    pub(crate) fn new(program: &Program, opened: Arc<Device>, given: &[Option<Held>]) -> Result<Gpu, String> {
        program.check_reach()?;
        refuse_too_large(program, &opened, given)?;
        let device = opened.queue();
        // an operand that does not always begin where a buffer can be bound is told where it does
        let source = |(k, aligned): (&Kernel, Vec<bool>)| device.source(k, &aligned.iter().map(|a| !a).collect::<Vec<_>>());
        let sources = program.kernels.iter().zip(program.aligned(BINDING)).map(source).collect::<Result<_, _>>()?;
        let pair = |ty: &ir::Type| Ok::<_, String>((Block::new(ty.bytes())?, device.zeros(ty.bytes())?));
        let inputs = program.inputs.iter().map(|i| pair(&i.1)).collect::<Result<Vec<_>, _>>()?;
        let param = |(ty, given): (&ir::Type, &Option<Held>)| match given {
            Some(Held::Device(_, memory)) => Ok(memory.clone()),
            _ => device.zeros(ty.bytes()),
        };
        let params = program.params.iter().map(|p| &p.1).zip(given).map(param).collect::<Result<Vec<_>, _>>()?;
        let output = |(i, o): (usize, &(String, ir::Type))| program.output_state(i).is_none().then(|| pair(&o.1)).transpose();
        let outputs = program.outputs.iter().enumerate().map(output).collect::<Result<Vec<_>, _>>()?;
        let arena = device.empty(program.arena_bytes())?;
        // what the driver refused comes to light here, before the first step
        device.sync()?;
        Ok(Gpu { opened, device, calls: program.calls(), entries: None, repeat: Repeat::First, sources, inputs, params, outputs, arena })
    }

    fn memory_of(&self, region: Region) -> &Memory {
        match region {
            Region::Input(i) => &self.inputs[i].1,
            Region::Param(i) => &self.params[i],
            Region::Output(i) => &self.outputs[i].as_ref().expect("the result has memory of its own").1,
            Region::Arena => &self.arena,
        }
    }

    fn prepare(&mut self) {
        if self.entries.is_none() {
            let entry = |c: &Call| {
                let operands: Vec<(&Memory, Address)> = c.args.iter().map(|a| (self.memory_of(a.region), *a)).collect();
                self.device.entry(&self.sources[c.kernel], &operands)
            };
            self.entries = Some(self.calls.iter().map(entry).collect());
        }
    }

    fn upload(&self) -> Result<(), String> {
        self.inputs.iter().try_for_each(|(block, memory)| self.device.write(memory, block.bytes()))
    }

    fn download(&mut self) -> Result<(), String> {
        for (block, memory) in self.outputs.iter_mut().flatten() {
            block.bytes_mut().copy_from_slice(&self.device.read(memory)?);
        }
        self.device.sync()
    }

    fn step(&mut self, fetch: bool) -> Result<(), String> {
        self.prepare();
        self.upload()?;
        let entries = self.entries.as_deref().unwrap_or_default();
        let launch = |device: &Device| entries.iter().for_each(|e| device.launch(e));
        match &self.repeat {
            Repeat::First => {
                launch(&self.device);
                self.repeat = Repeat::Second;
            }
            Repeat::Second => {
                let prepared = self.device.prepare();
                launch(&self.device);
                self.repeat = match prepared.and_then(|()| self.device.record(entries)) {
                    Ok(recording) => Repeat::Recorded(recording),
                    Err(e) => {
                        eprintln!("notice: {e}; this device's launches are not recorded but go one by one");
                        Repeat::Refused
                    }
                };
            }
            Repeat::Recorded(recording) => self.device.replay(recording)?,
            Repeat::Refused => launch(&self.device),
        }
        if fetch { self.download() } else { self.device.sync() }
    }

    /// The first call that writes a value that is not finite.
    fn look(&mut self, program: &Program) -> Result<Option<Fault>, String> {
        self.prepare();
        self.upload()?;
        for (n, (entry, call)) in self.entries.iter().flatten().zip(&self.calls).enumerate() {
            let before = finite::before(program, call, &Looked::new(self))?;
            self.device.launch(entry);
            if let Some(fault) = finite::after(program, n, call, &before, &Looked::new(self))? {
                return Ok(Some(fault));
            }
        }
        self.download()?;
        Ok(None)
    }
}

/// A device between two launches: what was read of it already is not read again.
struct Looked<'a> {
    gpu: &'a Gpu,
    read: RefCell<BTreeMap<Region, Arc<[u8]>>>,
}

impl Looked<'_> {
    fn new(gpu: &Gpu) -> Looked<'_> {
        Looked { gpu, read: RefCell::default() }
    }
}

impl finite::Memory for Looked<'_> {
    fn bytes(&self, a: &Address) -> Result<Cow<'_, [u8]>, String> {
        let known = self.read.borrow().get(&a.region).cloned();
        let all = match known {
            Some(all) => all,
            None => self.gpu.device.read(self.gpu.memory_of(a.region))?.into(),
        };
        self.read.borrow_mut().insert(a.region, all.clone());
        Ok(all[a.offset..a.offset + a.bytes].to_vec().into())
    }
}

impl Backend for Gpu {
    fn run(&mut self, _: &Program, fetch: bool) -> Result<(), Fault> {
        self.step(fetch).map_err(Fault::Device)
    }

    /// Reads back what each call read and wrote.
    fn run_checked(&mut self, program: &Program) -> Result<(), Fault> {
        match self.look(program).map_err(Fault::Device)? {
            None => Ok(()),
            Some(fault) => Err(fault),
        }
    }

    fn input(&mut self, i: usize) -> &mut Block {
        &mut self.inputs[i].0
    }

    fn output(&self, i: usize) -> Option<&Block> {
        self.outputs[i].as_ref().map(|o| &o.0)
    }

    fn show_params(&self, show: &mut dyn FnMut(&[&[u8]])) -> Result<(), String> {
        let all = self.params.iter().map(|p| self.device.read(p)).collect::<Result<Vec<_>, _>>()?;
        show(&all.iter().map(Vec::as_slice).collect::<Vec<_>>());
        Ok(())
    }

    fn param(&self, i: usize) -> Result<Vec<u8>, String> {
        self.device.read(&self.params[i])
    }

    fn set_param(&mut self, i: usize, at: usize, bytes: &[u8]) -> Result<(), String> {
        self.device.write_at(&self.params[i], at, bytes)?;
        // another session that shares it has a queue of its own
        self.device.sync()
    }

    fn held(&self, i: usize) -> Held {
        Held::Device(self.opened.clone(), self.params[i].clone())
    }

    fn hold(&mut self, i: usize, held: &Held) -> bool {
        match held {
            Held::Device(device, memory) if Arc::ptr_eq(device, &self.opened) => {
                if !memory.is(&self.params[i]) {
                    self.params[i] = memory.clone();
                    (self.entries, self.repeat) = (None, Repeat::First);
                }
                true
            }
            Held::Device(..) | Held::Host(_) => false,
        }
    }

    fn poison(&mut self) -> Result<(), String> {
        let nan: Vec<u8> = f32::NAN.to_le_bytes().repeat(self.arena.len() / 4);
        self.device.write(&self.arena, &nan)
    }

    fn bytes(&self, program: &Program) -> usize {
        program.bytes()
    }
}

/// Refuses, before anything is allocated, what the device has no room for.
fn refuse_too_large(program: &Program, device: &Device, given: &[Option<Held>]) -> Result<(), String> {
    let there: usize = program.params.iter().zip(given).filter(|(_, g)| g.is_some()).map(|(p, _)| p.1.bytes()).sum();
    let (need, mib) = (program.bytes() - there, |n: usize| n >> 20);
    match device.memory() {
        Some(have) if need > have => {
            let advice = "use a smaller batch, context or model";
            Err(format!("this program needs {} MiB, and {} has {} MiB: {advice}", mib(need), device.name(), mib(have)))
        }
        _ => Ok(()),
    }
}
