//! Commands that are a training with settings of their own: what each is called, what its recipe need not say, and what its help tells.

/// Such a command.
pub struct Own {
    /// As a person writes it.
    pub command: &'static str,
    /// Settings, which come after the recipe's and before what `--set` says.
    pub settings: &'static [&'static str],
    /// What stands behind its flags.
    pub help: &'static str,
}

/// A model learns which of two answers people prefer.
pub const DPO: Own = Own {
    command: "dpo",
    settings: &["objective.kind=preference", "data.documents=preferences"],
    help: "A file .json is a list of records, a .jsonl has one a line: {\"prompt\": …, \"chosen\": …, \"rejected\": …}, where answers may be lists of\nmessages; or Alpaca's instruction, input, chosen and rejected; or, for kto, {\"prompt\": …, \"completion\": …, \"label\": true}.\nWhat the model says before the first step is the reference, kept in the run directory in reference.json; the first loss of dpo is ln 2.\n\nExamples:\n  eggcorn dpo dpo --init-from runs/instruct --data pairs.json\n  eggcorn dpo --init-from SmolLM2-135M-Instruct/ --data pairs.jsonl --set preference.beta=0.2 --set train.lr=5e-6\n  eggcorn dpo dpo --init-from runs/instruct --data pairs.json --set preference.kind=simpo\n  eggcorn dpo dpo --init-from runs/instruct --data judged.jsonl --set preference.kind=kto",
};

/// A model learns to say what an answer is worth.
pub const REWARD: Own = Own {
    command: "reward",
    settings: &["objective.kind=reward", "data.documents=preferences"],
    help: "Records are those of eggcorn dpo. On the way it says how often the chosen answer of held-out pairs is worth more. The run directory is a\nreward for eggcorn grpo and eggcorn ppo: policy.reward = \"model\", policy.reward_model = \"runs/reward\".\n\nExamples:\n  eggcorn reward dpo --init-from runs/instruct --data pairs.json --out runs/reward\n  eggcorn reward gpt2 --data pairs.jsonl --set data.tokenizer=bpe --set preference.margin=0.5",
};

/// A model writes answers, is rewarded, and learns from which were better than others.
pub const GRPO: Own = Own {
    command: "grpo",
    settings: &["objective.kind=policy"],
    help: "Prompts and right answers are pairs, as of eggcorn train, or made by data.task. Rewards are a rule (policy.reward = exact, match, length), a\nmodel of eggcorn reward (model), or a command (command), which reads a line {\"prompt\": …, \"completion\": …, \"answer\": …} an answer and\nwrites a number, or {\"reward\": …}, a line each. policy.kind is grpo, dapo or dr-grpo. All that was written is in rollouts.jsonl, and shown by\neggcorn runs --rollouts.\n\nExamples:\n  eggcorn grpo grpo-sort --init-from runs/sort\n  eggcorn grpo grpo-sort --init-from runs/sort --set policy.kind=dr-grpo --set policy.kl=0.02\n  eggcorn grpo --init-from runs/sums --data sums.tsv --set data.documents=pairs --set policy.reward=match --set 'policy.reward_pattern=(\\d+)$'\n  eggcorn grpo --init-from runs/poet --data prompts.tsv --set policy.reward=command --set 'policy.reward_command=python3 judge.py'",
};

/// A model writes answers, is rewarded, and learns from what was better than it expected.
/// What a recipe says of groups is for another kind.
pub const PPO: Own = Own {
    command: "ppo",
    settings: &["objective.kind=policy", "policy.kind=ppo", "policy.group=1"],
    help: "Prompts, right answers and rewards are those of eggcorn grpo. Values are a head on the model, v_head.summary. policy.kl is taken from the rewards,\na token at a time; with policy.kl_target its weight follows the distance.\n\nExamples:\n  eggcorn ppo grpo-sort --init-from runs/sort\n  eggcorn ppo grpo-sort --init-from runs/sort --set policy.kl=0.05 --set policy.kl_target=4 --set policy.updates=4",
};

/// A model learns to say what a larger one says.
pub const DISTILL: Own = Own {
    command: "distill",
    settings: &["objective.kind=distill", "policy.group=1"],
    help: "The text, or pairs of prompts and answers, are those of eggcorn train. distill.divergence is forward (all that the teacher may say), reverse\n(nothing that it would not) or mixed; distill.text is the share of the text's own loss. On the way the loss of held-out text is shown.\n\nExamples:\n  eggcorn distill gpt2 --data input.txt --tokenizer runs/large/tokenizer.json --set distill.teacher=runs/large --set n_layer=2\n  eggcorn distill --init-from runs/small --data input.txt --set distill.teacher=runs/large --set distill.divergence=reverse\n  eggcorn distill --init-from runs/small --data prompts.tsv --set data.documents=pairs --set distill.teacher=runs/large --set distill.on_policy=true",
};
