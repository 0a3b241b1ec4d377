//! `--method split-gibbs` makes whole groups; `--method auto` says what it took.

use crate::program::{self, ok, refused};
use crate::restore::{N, floats, picture, values};
use crate::tiny::SIDE;
use crate::tiny_scratch::scratch;

/// Groups of 4: a picture gets as many samples as were asked for, the same whatever the batch, and of a larger count
/// the same first ones.
#[test]
fn split_gibbs_makes_whole_groups_and_gives_what_was_asked_for() {
    let s = scratch();
    let dir = s.path();
    s.write("x.npy", floats(&[2, SIDE, SIDE], &[picture(0), picture(1)].concat()));
    let run = |count: usize, batch: usize, name: &str| {
        let words = format!(
            "denoise x.npy --simulate --sigma 0.4 --method split-gibbs --ensemble 4 --steps 6 --model model --count {count} \
             --batch {batch} --output {name} --json"
        );
        let said = ok(dir, &words.split_whitespace().collect::<Vec<_>>());
        let said: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
        assert!(said["effective"].as_f64().is_some_and(|e| (0.25..=1.0).contains(&e)), "{said}");
        assert!(said["chosen_because"].is_null());
        values(dir.join(name)).1
    };
    let three = run(3, 16, "a.npy");
    assert_eq!(three.len(), 2 * 3 * N);
    assert_eq!(run(3, 1, "b.npy"), three);
    let four = run(4, 7, "c.npy");
    assert_eq!(four[..3 * N], three[..3 * N]);
    assert_eq!(four[4 * N..7 * N], three[3 * N..]);
}

#[test]
fn auto_says_what_it_took() {
    let s = scratch();
    let dir = s.path();
    s.write("x.npy", floats(&[SIDE, SIDE], &picture(0)));
    for (options, method) in [
        ("--sigma 0.1", "calibrated"),
        ("--sigma 0.1 --calls 100000", "split Gibbs"),
        ("--sigma 0.1 --calls 200", "DiffPIR"),
        ("--sigma 0.1 --calls 30", "DDRM"),
        ("--sigma 0", "DDNM"),
    ] {
        let words = format!(
            "restore x.npy --simulate --operator half --method auto {options} --model model --output o.npy --json"
        );
        let out = program::run(dir, &words.split_whitespace().collect::<Vec<_>>());
        let (said, told) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
        assert!(out.status.success(), "{words}: {told}");
        let said: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
        assert_eq!(said["method"], method, "{said}");
        let because = said["chosen_because"].as_str().unwrap();
        assert!(told.contains("--method auto takes") && told.contains(because), "{told}");
    }
    let words =
        "restore x.npy --simulate --operator half --method auto --sigma 0.1 --calls 3 --model model --output o.npy";
    refused(dir, &words.split_whitespace().collect::<Vec<_>>(), 1, "--calls is 3, too few: ");
}
