//! The seeds of the fuzz target `c_calls`, as they are and with a few bytes changed: sequences of calls in whatever
//! order, with whatever numbers, end without a panic.

use std::fs;
use std::path::Path;

use undiffuse::noise::Stream;

#[path = "../../fuzz/src/c_calls.rs"]
mod c_calls;

/// Changed inputs of each seed.
const CHANGED: u64 = 100;

#[test]
fn no_sequence_of_calls_panics() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/c_calls");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for (i, file) in files.iter().enumerate() {
        let seed = fs::read(file).unwrap();
        c_calls::c_calls(&seed);
        for k in 0..CHANGED {
            let mut random = Stream::new(2015, i as u64, k);
            let mut bytes = seed.clone();
            for _ in 0..4 {
                let at = random.bits() as usize % bytes.len();
                bytes[at] = random.bits() as u8;
            }
            c_calls::c_calls(&bytes);
        }
    }
}
