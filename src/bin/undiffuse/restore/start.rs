//! Where a restoration begins that does not begin at noise: the picture that the measurement alone suggests.

use undiffuse::Result;
use undiffuse::tensor::Dims;

use super::operator::Operator;
use super::sheet;

/// Writes A^+ y to `x`, of dimensions `dims`; unknown pixels of a mask get the mean of what is known around them, of
/// the smallest surroundings in which anything is.
pub fn picture(operator: &Operator, y: &[f32], dims: &Dims, x: &mut [f32]) -> Result<()> {
    let (Operator::Mask(mask), &[_, h, w]) = (operator, dims.as_slice()) else {
        x.copy_from_slice(&sheet::backwards(operator.linear()?, y, dims)?);
        return Ok(());
    };
    x.fill(f32::NAN);
    for (&i, &y) in mask.known().iter().zip(y) {
        if let Some(x) = x.get_mut(i) {
            *x = y;
        }
    }
    x.chunks_exact_mut((h * w).max(1)).for_each(|x| fill(x, [h, w]));
    Ok(())
}

/// Fills in what is NaN: means over blocks of two, four and so on, and back by interpolation. Nothing known is 0.
fn fill(x: &mut [f32], [h, w]: [usize; 2]) {
    if x.iter().all(|v| !v.is_nan()) {
        return;
    }
    if h * w <= 1 {
        x.fill(0.0);
        return;
    }
    let [small_h, small_w] = [h.div_ceil(2), w.div_ceil(2)];
    let mut mean = vec![0.0f32; small_h * small_w];
    for (i, to) in mean.iter_mut().enumerate() {
        let (mut sum, mut count) = (0.0, 0.0);
        for (y, k) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (y, k) = (i / small_w * 2 + y, i % small_w * 2 + k);
            if let Some(v) = x.get(y * w + k).filter(|v| y < h && k < w && !v.is_nan()) {
                (sum, count) = (sum + v, count + 1.0);
            }
        }
        *to = if count > 0.0 { sum / count } else { f32::NAN };
    }
    fill(&mut mean, [small_h, small_w]);
    // Linear between the centres of blocks.
    let between = |i: usize, n: usize| {
        let at = (i as f32 - 0.5) / 2.0;
        let low = at.max(0.0) as usize;
        (low.min(n - 1), (low + 1).min(n - 1), (at - low as f32).clamp(0.0, 1.0))
    };
    for (i, v) in x.iter_mut().enumerate().filter(|(_, v)| v.is_nan()) {
        let ((top, bottom, dy), (left, right, dx)) = (between(i / w, small_h), between(i % w, small_w));
        let at = |y: usize, x: usize| mean.get(y * small_w + x).copied().unwrap_or_default();
        let line = |y: usize| (1.0 - dx) * at(y, left) + dx * at(y, right);
        *v = (1.0 - dy) * line(top) + dy * line(bottom);
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
        let mut x: Vec<f32> = (0..h * w).map(|i| if hidden(i) { f32::NAN } else { ramp[i] }).collect();
        fill(&mut x, [h, w]);
        for (i, (got, want)) in x.iter().zip(&ramp).enumerate() {
            assert!(if hidden(i) { (got - want).abs() < 0.35 } else { got == want }, "{got} {want}");
        }
        let mut nothing = vec![f32::NAN; 6];
        fill(&mut nothing, [2, 3]);
        assert_eq!(nothing, [0.0; 6]);
    }
}
