//! What only makes sense across crates.
#![allow(clippy::iter_over_hash_type)]
// numbers of another system are written as it prints them
#![allow(clippy::excessive_precision, clippy::approx_constant)]
// a build without some backend uses less of what tests share
#![cfg_attr(not(all(feature = "llvm", feature = "wgpu", feature = "cuda")), allow(dead_code, unused_imports))]

/// Adapters: what stands beside a layer, which layers there are, what is trained and saved.
mod adapters;
/// Adapters with every objective, from the command line.
#[cfg(feature = "llvm")]
mod adapters_asked;
/// Adapters beside the layers of random programs.
mod adapters_random;
/// Training beside a model: it starts where that is, checkpoints hold what is beside it.
#[cfg(feature = "llvm")]
mod adapters_trained;
/// Models that answer texts: rows with their own, beams that end.
#[cfg(feature = "llvm")]
mod answering;
/// Attention of every kind, compiled: against what was written, with as many threads, and in no more memory.
#[cfg(feature = "llvm")]
mod attention;
/// The kernels of attention, whatever becomes of a score, against plain loops.
mod attention_kernels;
/// Attention of every kind, as people write it.
mod attention_kinds;
/// Text to batches: shift, split, coverage.
mod batches;
/// Objects kept on disk.
#[cfg(feature = "llvm")]
mod cache;
/// What a program's calls touch.
mod calls;
/// Conversations: records, templates, answers, tokens with their marks.
mod chats;
/// Prompts in chunks, rows at once: as one token after the other, and as the whole.
#[cfg(feature = "llvm")]
mod chunks;
/// Classes of texts: heads, losses, files, parts, figures.
mod classes;
/// The command line as a person uses it.
#[cfg(feature = "llvm")]
mod cli;
/// What objectives make of rows.
mod collate;
mod common;
/// Compiled programs against evaluation.
#[cfg(feature = "llvm")]
mod compiled;
/// What a model is held to, and what it may be called.
mod contracts;
/// Documents cleaned: every step with cases computed by hand.
mod corpus_clean;
/// Duplicates of every kind against plain comparison; sorting in little memory; stopped, shared and threaded.
mod corpus_dedup;
/// A whole corpus: the same bytes whatever the threads, shares and interruptions.
mod corpus_prepare;
/// Files to documents: every format, what is bad, shares, threads, restarts.
mod corpus_read;
/// Evaluation sets taken out, documents held out, stages looked at.
mod corpus_split;
/// The loss of language models: whatever is common to a row, rows that are ignored.
#[cfg(feature = "llvm")]
mod cross_entropy;
/// Decoders by settings: what is found in each, and tokens one after another against the whole.
mod decoders;
/// Text from tokens, the choice of a token, generation past the context.
#[cfg(feature = "llvm")]
mod decoding;
/// Programs of thousands of ops in one function.
mod deep;
/// Programs on devices.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod devices;
/// What helps to choose settings: rates, widths, depth, sweeps.
#[cfg(feature = "llvm")]
mod dials;
/// A model that imitates another.
#[cfg(feature = "llvm")]
mod distill;
/// What the documents say is so.
#[cfg(feature = "llvm")]
mod docs;
/// Every op at the edge of its domain: whole numbers that wrap, NaN, ∞, zeros, subnormal numbers.
mod edges;
/// Encoders, decoders that see what one made, and vectors of texts.
mod encoders;
/// What changes no step, for each objective.
mod equalities;
/// What training evaluates, draws and saves, against plain evaluation.
#[cfg(feature = "llvm")]
mod evaluation;
/// What the class of a rule promises of the bits.
mod exactness;
/// Mixtures of experts against plain loops, and that cost follows the active.
mod experts;
/// What extraction chooses, and why.
mod extraction;
mod f32;
/// Files written, locked and read.
#[cfg(feature = "llvm")]
mod files;
/// What a checked run takes for a fault.
mod finite;
/// Random programs at every level, and a wrong kernel caught.
#[cfg(feature = "llvm")]
mod fuzz;
/// Kernels for graphics processors.
mod gpu;
/// Gradients at the edge of a domain, as PyTorch has them.
#[cfg(feature = "llvm")]
mod grad_edges;
/// Every pullback against differences, and a wrong one caught.
mod grads;
/// Rows that each meet the matrix of their group, and sums of each group's rows.
mod grouped;
/// Which ops share a kernel.
#[cfg(feature = "llvm")]
mod grouping;
/// What adding something touches.
mod growth;
/// The guide: its commands, what they print, its lines of source.
mod guide;
/// What is kept in 16 bits between a body forward and backward.
mod halves;
/// Damaged dumps through the whole compiler, and absurd programs.
mod hostile;
/// Tokenizers' files that somebody crafted.
mod hostile_tokenizers;
/// Models of Hugging Face's libraries: there and back, what is refused, files that somebody crafted.
mod hub;
/// One ill-typed program for each error of the type rule.
mod ill_typed;
/// Questions with answers: tasks, the seam of tokens, figures; translations.
mod judging;
/// What a process may use of the machine.
#[cfg(feature = "llvm")]
mod limits;
/// Shards, mixtures and packed documents.
#[cfg(feature = "llvm")]
mod loader;
/// Losses of preferences, policies and imitation, and the programs that others are compared with.
mod losses;
/// Errors of the vector functions.
#[cfg(feature = "llvm")]
mod maths;
/// Models of this project against plain arithmetic, and their ranges.
mod models;
/// Programs that almost match a rule.
/// Names of parameters: places of iterations, layers of patterns, what would be one tensor in a file.
mod naming;
mod near;
/// The compiler that NVIDIA's driver brings.
#[cfg(feature = "cuda")]
mod nvrtc;
/// Losses as sums and counts, micro-batches, what is frozen, one kernel an update.
#[cfg(feature = "llvm")]
mod objectives;
/// Optimizers, groups and clipping against plain arithmetic.
mod optimizers;
/// A model of one's own has every command.
#[cfg(feature = "llvm")]
mod own_model;
/// The memory plan.
/// Matrices in few bits: levels, words, programs, memory.
mod packed;
mod plan;
/// Models that write, are rewarded and learn from it.
#[cfg(feature = "llvm")]
mod policies;
/// Threads and their barriers; a panic of any of them.
mod pool;
/// What people preferred, learned.
#[cfg(feature = "llvm")]
mod preferences;
/// A dump is an input; `run` is held to its files.
#[cfg(feature = "llvm")]
mod programs;
/// What stands before every text: a prompt against a text that begins with it, a prefix against a past that has it.
mod prompts;
/// An interpreter of what that compiler makes.
#[cfg(feature = "cuda")]
mod ptx;
mod random_graphs;
mod random_state;
/// Recipes, each taken a few steps.
#[cfg(feature = "llvm")]
mod recipes;
/// Every rule is an equation; every spelling is found; proofs replay.
mod rules;
/// `eggcorn run`: where its results go.
#[cfg(feature = "llvm")]
mod run_command;
/// A run directory: killed, resumed, read while it is written, wanted by two.
#[cfg(feature = "llvm")]
mod run_directory;
/// What a run says of itself: tables, events, metrics that are cut or damaged.
mod run_record;
/// What is kept and shown of a run: checkpoints, the report, runs compared, flags of nanoGPT.
#[cfg(feature = "llvm")]
mod run_report;
/// Programs run and compared.
mod running;
/// The choice of tokens against plain sorting, and the end of a text.
mod sampling;
/// The loss of texts and what is asked of them: trees of texts against each alone, windows, n-grams.
mod scoring;
/// Settings: what is understood, what is refused, and the rates of the steps.
mod settings;
/// Parameters that several sessions hold.
mod sharing;
/// Dumps and kernels as text.
#[cfg(feature = "llvm")]
mod snapshots;
/// Gradients against finite differences; every stage of both models means the same.
mod stages;
/// State is always written, in place where that is proven safe.
#[cfg(feature = "llvm")]
mod state;
/// The step of a training loop and the loop around it.
#[cfg(feature = "llvm")]
mod stepping;
/// Text that is no program, models that are ill-typed.
mod text;
/// Large values a tile of rows at a time.
mod tiles;
/// Subword tokenizers against the library and the files they come from.
mod tokenizers;
/// Kernels' texts as their toolchains read them.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod toolchains;
/// Tasks that are asked while a model is trained.
#[cfg(feature = "llvm")]
mod tracked;
/// Which layers are trained, and at what rates.
mod trained_layers;
/// Training, resuming, generating; what must not depend on depth or length.
#[cfg(feature = "llvm")]
mod training;
/// Values written at a position that is known only as a program runs.
#[cfg(feature = "llvm")]
mod update;
/// How and at what rate parameters are updated, by what people write.
mod updating;
/// Every rule of the verifier, violated alone.
mod verifier;
