//! How much better what was written is than what was to be expected.

/// Rewards beside the others of their group, of so many that follow each other: less the group's mean and, where they are scaled, by its
/// deviation and a ten-thousandth (Shao et al. 2024; Liu et al. 2025 divide by nothing).
pub fn group_advantages(rewards: &[f64], group: usize, scaled: bool) -> Vec<f64> {
    let one = |rewards: &[f64]| -> Vec<f64> {
        let n = rewards.len() as f64;
        let mean = rewards.iter().sum::<f64>() / n;
        let variance = rewards.iter().map(|r| (r - mean) * (r - mean)).sum::<f64>() / (n - 1.0).max(1.0);
        let by = if scaled { variance.sqrt() + 1e-4 } else { 1.0 };
        rewards.iter().map(|r| (r - mean) / by).collect()
    };
    rewards.chunks(group).flat_map(one).collect()
}

/// What each token of an answer gained over what was expected of it, and what came of it in the end: generalised advantages, δ = r + γ v′ − v
/// and A = δ + γ λ A′, and A + v (Schulman et al. 2016). Nothing is expected behind the last token.
pub fn generalised_advantages(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> (Vec<f64>, Vec<f64>) {
    let mut advantages = vec![0.0; rewards.len()];
    let (mut after, mut next) = (0.0, 0.0);
    for i in (0..rewards.len()).rev() {
        let surprise = rewards[i] + gamma * next - values[i];
        after = surprise + gamma * lambda * after;
        (advantages[i], next) = (after, values[i]);
    }
    let returns = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
    (advantages, returns)
}

/// Numbers less their mean, by their deviation.
pub(super) fn whitened(x: &mut [f64]) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n.max(1.0);
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0).max(1.0);
    x.iter_mut().for_each(|x| *x = (*x - mean) / (variance.sqrt() + 1e-8));
}

/// The weight of a distance that is drawn to a target: more where it is further, by at most a fifth of the error (Ziegler et al. 2019, §2.2).
pub(super) fn adapted(weight: f64, distance: f64, target: f64, rows: usize) -> f64 {
    let error = (distance / target - 1.0).clamp(-0.2, 0.2);
    weight * (1.0 + error * rows as f64 / HORIZON)
}

/// Answers in which an error doubles a weight, about.
const HORIZON: f64 = 10_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_are_of_their_group() {
        let scaled = group_advantages(&[1.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0, 5.0], 4, true);
        assert!((scaled[0] - 0.75 / 0.5001).abs() < 1e-12 && (scaled[1] + 0.25 / 0.5001).abs() < 1e-12);
        assert_eq!(scaled[4..], [0.0; 4]);
        assert_eq!(group_advantages(&[1.0, 0.0, 2.0], 3, false), [0.0, -1.0, 1.0]);
    }

    /// λ = 1 gives what came less what was expected, λ = 0 the surprise alone.
    #[test]
    fn generalised_advantages_at_their_ends() {
        let (rewards, values) = ([0.5, 0.0, 2.0], [1.0, -1.0, 0.25]);
        let (all, returns) = generalised_advantages(&rewards, &values, 0.9, 1.0);
        let came = [0.5 + 0.9 * 0.9 * 2.0, 0.9 * 2.0, 2.0];
        for i in 0..3 {
            assert!((all[i] - (came[i] - values[i])).abs() < 1e-12 && (returns[i] - came[i]).abs() < 1e-12);
        }
        let (one, _) = generalised_advantages(&rewards, &values, 0.9, 0.0);
        for (have, want) in one.iter().zip([0.5 - 0.9 - 1.0, 0.9 * 0.25 + 1.0, 2.0 - 0.25]) {
            assert!((have - want).abs() < 1e-12);
        }
    }

    #[test]
    fn a_weight_follows_its_distance() {
        assert_eq!(adapted(0.1, 6.0, 6.0, 100), 0.1);
        assert!(adapted(0.1, 60.0, 6.0, 100) > 0.1 && adapted(0.1, 0.0, 6.0, 100) < 0.1);
        assert_eq!(adapted(0.1, 60.0, 6.0, 100), adapted(0.1, 600.0, 6.0, 100));
    }
}
