//! Reads lines of `Type<TAB>JSON` and answers each with the value as it writes it again, or with why it can't be read.

#[path = "../../../../schemas/archer.rs"]
mod archer;
mod usage;

use std::io::{stdin, stdout, BufRead, Write};

use serde::{de::DeserializeOwned, Serialize};

// `fn read_as(name: &str, text: &str) -> serde_json::Result<String>`, a line for each type: made by the test.
include!(env!("READ_AS"));

fn again<T: DeserializeOwned + Serialize + PartialEq>(text: &str) -> serde_json::Result<String> {
    let value: T = serde_json::from_str(text)?;
    let written = serde_json::to_string(&value)?;
    assert!(serde_json::from_str::<T>(&written)? == value, "{written}");
    Ok(written)
}

fn main() {
    usage::check();
    for line in stdin().lock().lines() {
        let line = line.expect("a line");
        let (name, text) = line.split_once('\t').expect("a tab");
        let answer = match read_as(name, text) {
            Ok(written) => written,
            Err(error) => format!("error: {error}"),
        };
        writeln!(stdout(), "{answer}").expect("a reader");
    }
}
