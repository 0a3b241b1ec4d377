//! Where a restoration begins that does not begin at noise: the picture that the measurement alone suggests.

use undiffuse::Result;
use undiffuse::tensor::Dims;

use super::operator::Operator;
use super::sheet;

/// A^+ y; unknown pixels of a mask get the mean of what is known around them, of the smallest surroundings in which
/// anything is.
pub fn picture(operator: &Operator, y: &[f32], dims: &Dims) -> Result<Vec<f32>> {
    let mut x = sheet::backwards(operator.linear()?, y, dims)?;
    let (Operator::Mask(mask), &[_, h, w]) = (operator, dims.as_slice()) else { return Ok(x) };
    let mut known = vec![0.0f32; x.len()];
    for &i in mask.known() {
        if let Some(k) = known.get_mut(i) {
            *k = 1.0;
        }
    }
    let plane = (h * w).max(1);
    for (x, known) in x.chunks_exact_mut(plane).zip(known.chunks_exact(plane)) {
        fill(x, known, [h, w]);
    }
    Ok(x)
}

/// Fills in what is not known: weighted means over blocks of two, four and so on, and back by interpolation.
fn fill(x: &mut [f32], known: &[f32], [h, w]: [usize; 2]) {
    if known.iter().all(|&k| k > 0.0) || h * w <= 1 {
        return;
    }
    let [small_h, small_w] = [h.div_ceil(2), w.div_ceil(2)];
    let (mut mean, mut share) = (vec![0.0f32; small_h * small_w], vec![0.0f32; small_h * small_w]);
    for (i, (v, k)) in x.iter().zip(known).enumerate() {
        let at = i / w / 2 * small_w + i % w / 2;
        if let (Some(mean), Some(share)) = (mean.get_mut(at), share.get_mut(at)) {
            *mean += k * v;
            *share += k;
        }
    }
    for (mean, share) in mean.iter_mut().zip(&mut share) {
        if *share > 0.0 {
            *mean /= *share;
            *share = 1.0;
        }
    }
    fill(&mut mean, &share, [small_h, small_w]);
    // Linear between the centres of blocks.
    let between = |i: usize, n: usize| {
        let at = (i as f32 - 0.5) / 2.0;
        let low = at.max(0.0) as usize;
        (low.min(n - 1), (low + 1).min(n - 1), (at - low as f32).clamp(0.0, 1.0))
    };
    for (i, (v, k)) in x.iter_mut().zip(known).enumerate() {
        if *k == 0.0 {
            let ((top, bottom, dy), (left, right, dx)) = (between(i / w, small_h), between(i % w, small_w));
            let at = |y: usize, x: usize| mean.get(y * small_w + x).copied().unwrap_or_default();
            let line = |y: usize| (1.0 - dx) * at(y, left) + dx * at(y, right);
            *v = (1.0 - dy) * line(top) + dy * line(bottom);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_get_what_is_around_them_and_what_is_known_stays() {
        let (h, w) = (13, 18);
        // A ramp, of which a box and a scatter of pixels are hidden.
        let ramp: Vec<f32> = (0..h * w).map(|i| (i % w) as f32 / 10.0).collect();
        let hidden = |i: usize| ((3..9).contains(&(i / w)) && (5..11).contains(&(i % w))) || i.is_multiple_of(7);
        let known: Vec<f32> = (0..h * w).map(|i| if hidden(i) { 0.0 } else { 1.0 }).collect();
        let mut x: Vec<f32> = ramp.iter().zip(&known).map(|(v, k)| if *k > 0.0 { *v } else { 9.0 }).collect();
        fill(&mut x, &known, [h, w]);
        for ((got, want), known) in x.iter().zip(&ramp).zip(&known) {
            assert!(if *known > 0.0 { got == want } else { (got - want).abs() < 0.35 }, "{got} {want}");
        }
        let mut nothing = vec![3.0; 6];
        fill(&mut nothing, &[0.0; 6], [2, 3]);
        assert_eq!(nothing, [0.0; 6]);
    }
}
