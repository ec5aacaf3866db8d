use crate::common::{bound, difference, environment, gpt, llama};
use ir::{Graph, eval, verify};
use passes::{Opt, optimize};

fn check_stages(graph: &Graph, opt: Opt) {
    let stages = optimize(graph, Some("loss"), opt).expect("optimises");
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
        assert!(difference(&joint_values[name], want) < 1e-9, "{name} after the joint stage");
        // a directional derivative of the built program
        let param = name.strip_prefix("grad.").unwrap();
        let (mut up, mut down) = (env.clone(), env.clone());
        let h = 1e-6;
        let direction = |i: usize| ((i * 7 + 3) % 5) as f64 - 2.0;
        for i in 0..want.data.len() {
            up.get_mut(param).unwrap().data[i] += h * direction(i);
            down.get_mut(param).unwrap().data[i] -= h * direction(i);
        }
        let loss = |env| eval(graph, env).unwrap()["loss"].data[0];
        let numeric = (loss(&up) - loss(&down)) / (2.0 * h);
        let analytic: f64 = want.data.iter().enumerate().map(|(i, g)| g * direction(i)).sum();
        let scale: f64 = want.data.iter().enumerate().map(|(i, g)| (g * direction(i)).abs()).sum::<f64>().max(1e-3);
        assert!((numeric - analytic).abs() < 1e-6 * scale, "{name}: {numeric} by differences, {analytic} by the pullbacks");
    }
}

#[test]
fn gpt_means_the_same_at_every_stage() {
    for opt in [Opt::Egg, Opt::Greedy, Opt::Off] {
        check_stages(&bound(&gpt(), 2, 5), opt);
    }
}

#[test]
fn llama_means_the_same_at_every_stage() {
    for opt in [Opt::Egg, Opt::Greedy, Opt::Off] {
        check_stages(&bound(&llama(true), 2, 5), opt);
        check_stages(&bound(&llama(false), 1, 7), opt);
    }
}
