//! Which classes are taken for which, and what follows from that.

/// How often texts of each class were taken for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confusion {
    /// A row for each class that is right, with a count for each that was said.
    rows: Vec<Vec<u64>>,
}

/// What is found of a class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OfClass {
    /// Of the texts that were taken for it the share that are; 0 where none was.
    pub precision: f64,
    /// Of its texts the share that was taken for it; 0 where there is none.
    pub recall: f64,
    /// Their harmonic mean, 0 where both are.
    pub f1: f64,
    /// Its texts.
    pub texts: u64,
}

impl Confusion {
    /// Counts which of so many classes is right and which is said, a pair a text.
    pub fn of(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Confusion {
        let mut rows = vec![vec![0; classes]; classes];
        pairs.into_iter().for_each(|(right, said)| rows[right][said] += 1);
        Confusion { rows }
    }

    /// Counts that are there already, as many rows as there are classes, and as many counts a row.
    pub fn of_rows(rows: Vec<Vec<u64>>) -> Confusion {
        Confusion { rows }
    }

    /// Adds counts as a program gives them, row by row.
    pub fn add(&mut self, counts: &[f32]) {
        let classes = counts.len().isqrt();
        self.rows.resize(classes, vec![0; classes]);
        for (row, counts) in self.rows.iter_mut().zip(counts.chunks(classes.max(1))) {
            row.iter_mut().zip(counts).for_each(|(n, more)| *n += *more as u64);
        }
    }

    /// The counts: a row for each class that is right, with one for each that was said.
    pub fn rows(&self) -> &[Vec<u64>] {
        &self.rows
    }

    /// Number of texts.
    pub fn count(&self) -> u64 {
        self.rows.iter().flatten().sum()
    }

    /// The share of texts that were taken for what they are.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = self.rows.iter().enumerate().map(|(i, row)| row[i]).sum();
        share(right, self.count())
    }

    /// What is found of each class.
    pub fn of_classes(&self) -> Vec<OfClass> {
        let one = |class: usize| {
            let (right, texts) = (self.rows[class][class], self.rows[class].iter().sum());
            let (precision, recall) = (share(right, self.rows.iter().map(|row| row[class]).sum()), share(right, texts));
            let both = precision + recall;
            let f1 = if both > 0.0 { 2.0 * precision * recall / both } else { 0.0 };
            OfClass { precision, recall, f1, texts }
        };
        (0..self.rows.len()).map(one).collect()
    }

    /// The mean F1 of all classes, each counted alike (scikit-learn's `f1_score(average="macro")`).
    pub fn macro_f1(&self) -> f64 {
        self.of_classes().iter().map(|c| c.f1).sum::<f64>() / self.rows.len().max(1) as f64
    }
}

fn share(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}
