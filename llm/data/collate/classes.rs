//! Which class a text is of.

use super::Filled;

/// A text and the number of its class. What is too long for the row loses its end.
pub(super) fn row(pieces: &[Vec<i32>], context: usize) -> Filled {
    let mut ids = pieces[0].clone();
    ids.truncate(context);
    let mask = vec![1; ids.len()];
    vec![ids, pieces[1].clone(), mask]
}

/// How much each row counts by its class; one that is not asked counts nothing.
pub(super) fn weights(labels: &[i32], of_classes: &[f64]) -> Vec<f32> {
    let one = |label: &i32| usize::try_from(*label).ok().and_then(|class| of_classes.get(class)).map_or(0.0, |w| *w as f32);
    labels.iter().map(one).collect()
}
