use crate::common::{bound, difference, environment, gpt, llama};
use ir::names::LOSS_SUM;
use ir::{Graph, eval, verify};
use models::{Bert, Model, T5};
use passes::{Opt, optimize};

fn check_stages(graph: &Graph, loss: &str, opt: Opt) {
    let stages = optimize(graph, Some(loss), opt).expect("optimises");
    let (grad, joint) = (stages.grad.as_ref().unwrap(), stages.joint.as_ref().unwrap());
    for stage in [&stages.fused, grad, joint] {
        verify(stage).unwrap_or_else(|e| panic!("{}", e.join("\n")));
        let text = stage.to_string();
        let again: Graph = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(again.to_string(), text, "text round trip");
    }
    let env = environment(graph, 1, 9);
    let built = eval(graph, &env).unwrap();
    let fused = eval(&stages.fused, &env).unwrap();
    let joint_values = eval(joint, &env).unwrap();
    for (name, want) in &built {
        assert!(difference(&fused[name], want) < 1e-11, "{name} after fusion");
        assert!(difference(&joint_values[name], want) < 1e-11, "{name} after the joint stage");
    }
    let grads = eval(grad, &env).unwrap();
    for (name, want) in grads.iter().filter(|g| g.0.starts_with("grad.")) {
        // what all keys of a head share changes nothing, so that a gradient is what rounding leaves
        let nothing = want.data.iter().chain(&joint_values[name].data).all(|x| x.abs() < 1e-12);
        assert!(nothing || difference(&joint_values[name], want) < 1e-9, "{name} after the joint stage");
        // a directional derivative of the built program
        let param = name.strip_prefix("grad.").unwrap();
        let (mut up, mut down) = (env.clone(), env.clone());
        let h = 1e-6;
        let direction = |i: usize| ((i * 7 + 3) % 5) as f64 - 2.0;
        for i in 0..want.data.len() {
            up.get_mut(param).unwrap().data[i] += h * direction(i);
            down.get_mut(param).unwrap().data[i] -= h * direction(i);
        }
        let value = |env| eval(graph, env).unwrap()[loss].data[0];
        let numeric = (value(&up) - value(&down)) / (2.0 * h);
        let analytic: f64 = want.data.iter().enumerate().map(|(i, g)| g * direction(i)).sum();
        let scale: f64 = want.data.iter().enumerate().map(|(i, g)| (g * direction(i)).abs()).sum::<f64>().max(1e-2);
        assert!((numeric - analytic).abs() < 1e-6 * scale, "{name}: {numeric} by differences, {analytic} by the pullbacks");
    }
}

#[test]
fn gpt_means_the_same_at_every_stage() {
    for opt in [Opt::Egg, Opt::Greedy, Opt::Off] {
        check_stages(&bound(&gpt(), 2, 5), LOSS_SUM, opt);
    }
}

/// An encoder, and a decoder that sees what one made with scores that depend on distance.
#[test]
fn encoders_mean_the_same_at_every_stage() {
    let bert = Bert {
        vocab_size: 9,
        max_position_embeddings: 9,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        hidden_size: 6,
        intermediate_size: 5,
        layer_norm_eps: 1e-5,
        ..Bert::default()
    };
    let t5 = T5 {
        vocab_size: 9,
        n_positions: 9,
        num_layers: 2,
        num_decoder_layers: 2,
        num_heads: 2,
        d_model: 6,
        d_kv: 2,
        d_ff: 5,
        relative_attention_num_buckets: 6,
        ..T5::default()
    };
    for opt in [Opt::Egg, Opt::Greedy, Opt::Off] {
        check_stages(&bound(&Model::from(bert.clone()), 2, 5), LOSS_SUM, opt);
        check_stages(&bound(&Model::from(t5.clone()), 2, 5), LOSS_SUM, opt);
    }
}

#[test]
fn llama_means_the_same_at_every_stage() {
    for opt in [Opt::Egg, Opt::Greedy, Opt::Off] {
        check_stages(&bound(&llama(true), 2, 5), LOSS_SUM, opt);
        check_stages(&bound(&llama(false), 1, 7), LOSS_SUM, opt);
    }
}

/// Bodies of a loop forward, and of one backward over what the first stacked, with a value between that only the second reads.
const THERE_AND_BACK: &str = "\
f0 there(%0: f32[2,2], %1: f32[2,2]) {
  %2 = mul %0, %1 : f32[2,2]
  %3 = tanh %2    : f32[2,2]
  return %3, %2
}

f1 back(%0: f32[2,2], %1: f32[2,2], %2: f32[2,2]) {
  %3 = contract[ac,cb->ab] %2, %2 : f32[2,2]
  %4 = mul %0, %1                 : f32[2,2]
  %5 = add %4, %3                 : f32[2,2]
  return %5
}

";

/// They look like a loop and its gradient and are not; each has a gradient of its own.
#[test]
fn loops_that_only_look_like_a_pair() {
    let trained = "\
main(%0 x: f32[2,2]) {
  @w : f32[3,2,2]
  @v : f32[2,2]
  %1 = repeat[f0,3,1,1] %0, @w : (f32[2,2],f32[3,2,2])
  %2 = get[0] %1 : f32[2,2]
  %3 = get[1] %1 : f32[3,2,2]
  %4 = mul %2, @v : f32[2,2]
  %5 = repeat[f1,3,1,1,reverse] %0, %3, %4 : (f32[2,2])
  %6 = get[0] %5 : f32[2,2]
  %7 = sum[-1,-2] %6 : f32[1,1]
  %8 = reshape[] %7 : f32[]
  return loss=%8
}
";
    // only the second loop's operands are trained, so the first has no gradient
    let frozen = "\
main(%0 x: f32[2,2], %1 w: f32[3,2,2]) {
  @v : f32[2,2]
  %2 = repeat[f0,3,1,1] %0, %1 : (f32[2,2],f32[3,2,2])
  %3 = get[0] %2 : f32[2,2]
  %4 = get[1] %2 : f32[3,2,2]
  %5 = mul %3, @v : f32[2,2]
  %6 = repeat[f1,3,1,1,reverse] @v, %4, %5 : (f32[2,2])
  %7 = get[0] %6 : f32[2,2]
  %8 = sum[-1,-2] %7 : f32[1,1]
  %9 = reshape[] %8 : f32[]
  return loss=%9
}
";
    // nothing that is trained runs through them, and the second reads what the first stacked, in its order and against it
    let untrained = |order: &str| {
        format!(
            "\
main(%0 x: f32[2,2], %1 w: f32[3,2,2]) {{
  @v : f32[2,2]
  %2 = repeat[f0,3,1,1] %0, %1 : (f32[2,2],f32[3,2,2])
  %3 = get[1] %2 : f32[3,2,2]
  %4 = repeat[f1,3,1,1{order}] %0, %3, %0 : (f32[2,2])
  %5 = get[0] %4 : f32[2,2]
  %6 = mul %5, @v : f32[2,2]
  %7 = sum[-1,-2] %6 : f32[1,1]
  %8 = reshape[] %7 : f32[]
  return loss=%8
}}
"
        )
    };
    let (same, against) = (untrained(""), untrained(",reverse"));
    for main in [trained, frozen, &same, &against] {
        let graph: Graph = format!("{THERE_AND_BACK}{main}").parse().unwrap();
        for opt in [Opt::Egg, Opt::Greedy, Opt::Off] {
            check_stages(&graph, "loss", opt);
        }
    }
}

/// A body that does not read some of its operands: their gradients are 0, and those of the others are their own.
#[test]
fn loops_with_operands_that_nobody_reads() {
    let text = "\
f0 layer(%0: f32[2], %1: f32[2], %2: f32[2], %3: f32[2], %4: f32[3], %5: f32[3]) {
  %6 = mul %0, %1 : f32[2]
  %7 = add %6, %3 : f32[2]
  %8 = sum[-1] %5 : f32[1]
  %9 = mul %7, %8 : f32[2]
  %10 = tanh %9 : f32[2]
  return %10
}

main(%0 x: f32[2]) {
  @a : f32[3,2]
  @b : f32[3,2]
  @c : f32[3,2]
  @d : f32[3]
  @e : f32[3]
  %1 = repeat[f0,3,1,3] %0, @a, @b, @c, @d, @e : (f32[2])
  %2 = get[0] %1 : f32[2]
  %3 = sum[-1] %2 : f32[1]
  %4 = reshape[] %3 : f32[]
  return loss=%4
}
";
    // what is left out is a parameter of the program only where something else reads it
    let kept = text
        .replace(
            "  %4 = reshape",
            "  %5 = sum[-1,-2] @b : f32[1,1]\n  %6 = sum[-1] @d : f32[1]\n  %7 = add %5, %6 : f32[1,1]\n  %8 = mul %7, %3 : f32[1,1]\n  %4 = reshape",
        )
        .replace("[] %3 :", "[] %8 :");
    for text in [text, &kept] {
        for opt in [Opt::Egg, Opt::Greedy, Opt::Off] {
            check_stages(&text.parse().unwrap(), "loss", opt);
        }
    }
}
