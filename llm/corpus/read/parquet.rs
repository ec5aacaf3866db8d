//! Parquet files, of which one column of strings is the text.

use super::config::ReadConfig;
use super::input::Input;
use super::sink::{Fault, Reason, Sink, TRY_SKIPPING};
use crate::error::{Error, Result};
use parquet::column::reader::ColumnReader;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Records read at a time.
const BATCH: usize = 64;

/// Hands the documents of a file to the sink, whose lines are its records, from 1. Gives the bytes of the file.
pub fn read(input: &Input, config: &ReadConfig, sink: &mut Sink) -> Result<u64> {
    let fail = |why: &dyn std::fmt::Display| Error(format!("{}: the Parquet file cannot be read: {why}; is it whole?", input.name));
    let Some(path) = input.path() else { return Err(fail(&"standard input cannot be read from its end; name a file")) };
    let file = File::open(path).map_err(|e| fail(&e))?;
    let bytes = file.metadata().map_err(|e| fail(&e))?.len();
    // the library panics on some damaged files
    let read = catch_unwind(AssertUnwindSafe(|| {
        let reader = SerializedFileReader::new(file).map_err(|e| fail(&e))?;
        let (column, level) = column(reader.metadata().file_metadata().schema_descr(), config, sink)?;
        let mut record = 0;
        for group in 0..reader.num_row_groups() {
            let group = reader.get_row_group(group).map_err(|e| fail(&e))?;
            read_column(group.get_column_reader(column).map_err(|e| fail(&e))?, level, &mut record, config, sink, &|e| fail(&e))?;
        }
        Ok(())
    }));
    read.unwrap_or_else(|_| Err(fail(&"it is damaged")))?;
    Ok(bytes)
}

/// The number of the text's column among the leaves of the schema, and the level of definition at which a value is there.
fn column(schema: &SchemaDescriptor, config: &ReadConfig, sink: &Sink) -> Result<(usize, i16)> {
    let names: Vec<String> = schema.columns().iter().map(|c| c.path().string()).collect();
    let Some(number) = names.iter().position(|n| *n == config.field) else {
        let known = ir::either(&names.iter().map(String::as_str).collect::<Vec<_>>());
        return Err(Error(format!("{}: there is no column '{}', expected {known}; try --field with one of them", sink.whole(), config.field)));
    };
    match schema.column(number).max_rep_level() {
        0 => Ok((number, schema.column(number).max_def_level())),
        _ => Err(Error(format!("{}: the column '{}' holds lists, expected strings; try another --field", sink.whole(), config.field))),
    }
}

/// Hands a column's texts to the sink, and counts its records. A value is there where its level of definition is the one said.
fn read_column(
    column: ColumnReader,
    level: i16,
    record: &mut u64,
    config: &ReadConfig,
    sink: &mut Sink,
    fail: &dyn Fn(ParquetError) -> Error,
) -> Result<()> {
    let ColumnReader::ByteArrayColumnReader(mut column) = column else {
        return Err(Error(format!("{}: the column '{}' holds no strings; try another --field", sink.whole(), config.field)));
    };
    let (mut values, mut levels) = (vec![], vec![]);
    loop {
        values.clear();
        levels.clear();
        let (records, _, _) = column.read_records(BATCH, Some(&mut levels), None, &mut values).map_err(fail)?;
        if records == 0 {
            return Ok(());
        }
        let mut texts = values.iter();
        for n in 0..records {
            *record += 1;
            // a column that is never null has no levels
            let is_there = levels.get(n).is_none_or(|l| *l == level);
            match is_there.then(|| texts.next()).flatten() {
                Some(text) => take(*record, text.data(), config, sink)?,
                None => sink.bad(missing(*record, config, sink))?,
            }
        }
    }
}

fn take(record: u64, text: &[u8], config: &ReadConfig, sink: &mut Sink) -> Result<()> {
    if text.len() as u64 > config.max_document { sink.bad(sink.too_long(sink.place(record))) } else { sink.bytes(sink.place(record), record, text) }
}

fn missing(record: u64, config: &ReadConfig, sink: &Sink) -> Fault {
    let what = format!("the field '{}' is null here, expected a string; try another --field, or {TRY_SKIPPING}", config.field);
    Fault { reason: Reason::MissingField, place: sink.place(record), what, text: String::new() }
}
