//! Figures in columns.

use super::say;

/// Prints rows under their heads: the first column to the left, all others to the right.
pub fn table(heads: &[&str], rows: &[Vec<String>]) {
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).chain([heads[i].chars().count()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &[&str]| {
        let cell = |(i, cell): (usize, &&str)| if i == 0 { format!("{cell:<0$}", widths[0]) } else { format!("{cell:>0$}", widths[i]) };
        say!("{}", cells.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end());
    };
    line(heads);
    rows.iter().for_each(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
}
