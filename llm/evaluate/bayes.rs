//! What counting words would do: multinomial naive Bayes, the baseline of a model of classes.

use std::collections::BTreeMap;

/// What is added to the count of each word in each class.
const ADDED: f64 = 1.0;

/// Multinomial naive Bayes over the words of texts (Manning, Raghavan & Schütze 2008, §13.2): the class with the largest
/// log p(class) + Σ log p(word | class), where p(word | class) = (count + 1) / (all counts of the class + kinds of words). As scikit-learn's
/// `CountVectorizer` and `MultinomialNB` have it, words that no text had which was learned from do not count.
pub struct NaiveBayes {
    /// log p(class); −∞ of one without a text.
    priors: Vec<f64>,
    /// How often each word stands in texts of each class.
    words: BTreeMap<String, Vec<u64>>,
    /// The same of all words.
    all: Vec<u64>,
}

impl NaiveBayes {
    /// Learns from texts, each with the number of its class.
    pub fn of<'t>(classes: usize, texts: impl IntoIterator<Item = (&'t str, usize)>) -> NaiveBayes {
        let (mut counts, mut all) = (vec![0_u64; classes], vec![0; classes]);
        let mut words: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (text, class) in texts {
            counts[class] += 1;
            for word in of(text) {
                words.entry(word).or_insert_with(|| vec![0; classes])[class] += 1;
                all[class] += 1;
            }
        }
        let texts: u64 = counts.iter().sum();
        let priors = counts.iter().map(|n| (*n as f64 / texts.max(1) as f64).ln()).collect();
        NaiveBayes { priors, words, all }
    }

    /// The likeliest class of a text, the first of several that are.
    pub fn class(&self, text: &str) -> usize {
        let mut scores = self.priors.clone();
        for counts in of(text).filter_map(|word| self.words.get(&word)) {
            for ((score, count), all) in scores.iter_mut().zip(counts).zip(&self.all) {
                *score += ((*count as f64 + ADDED) / (*all as f64 + ADDED * self.words.len() as f64)).ln();
            }
        }
        first_largest(&scores)
    }

    /// The class with the most texts, the first of several that have.
    pub fn majority(&self) -> usize {
        first_largest(&self.priors)
    }
}

fn first_largest(scores: &[f64]) -> usize {
    (1..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best })
}

/// The words of a text, in lower case: runs of two letters, digits or underscores at least.
fn of(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| word.chars().nth(1).is_some());
    words.map(str::to_lowercase).collect::<Vec<_>>().into_iter()
}
