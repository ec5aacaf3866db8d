//! The text of the recipe `self`: this project's own source.

/// A good part of the compiler, so that a first run needs no download.
pub const OWN_TEXT: &str = concat!(
    include_str!("../../ir/types.rs"),
    include_str!("../../ir/op.rs"),
    include_str!("../../ir/graph.rs"),
    include_str!("../../ir/builder.rs"),
    include_str!("../../ir/eval.rs"),
    include_str!("../../models/gpt.rs"),
    include_str!("../../models/llama.rs"),
    include_str!("../../models/layers.rs"),
    include_str!("../../passes/rule.rs"),
    include_str!("../../passes/rules.rs"),
    include_str!("../../passes/grad.rs"),
    include_str!("../../passes/extract.rs"),
    include_str!("../../codegen/kernel/language.rs"),
    include_str!("../../codegen/routine/group.rs"),
    include_str!("../../codegen/routine/steps.rs"),
    include_str!("../../codegen/lower/contract.rs"),
    include_str!("../../codegen/lower/attention/mod.rs"),
);
