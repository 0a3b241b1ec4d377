//! The recipe of seeded values that Rust tests and NumPy scripts share gives the same values on both sides.

use crate::pcg;
#[test]
fn first_values_are_those_of_numpy() {
    // Printed by `python tests/golden/pcg.py`.
    assert_eq!(pcg::uniform(7, 3, 4, 0.3), [0.27680746, -0.16590798, 0.05024425, 0.11122424]);
}
