//! The true pictures beside a restoration.

use crate::arrays::Array;
use crate::restore::figures::psnr_of;

/// Pictures, `[N, ...dims]`: as the bytes that they were read from where they were, a quarter of the memory.
pub enum Truth {
    Bytes(Vec<usize>, Vec<u8>),
    Values(Array),
}

/// What a picture's byte is read as.
fn value(byte: u8) -> f32 {
    f32::from(byte) / 127.5 - 1.0
}

impl Truth {
    pub fn new(pictures: Array) -> Self {
        let byte = |v: f32| {
            // Out of range it becomes the nearest byte, which is another value.
            let byte = ((v + 1.0) * 127.5).round() as u8;
            (value(byte) == v).then_some(byte)
        };
        match pictures.data.iter().map(|&v| byte(v)).collect() {
            Some(bytes) => Self::Bytes(pictures.shape, bytes),
            None => Self::Values(pictures),
        }
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Bytes(_, bytes) => bytes.len(),
            Self::Values(array) => array.data.len().saturating_mul(size_of::<f32>()),
        }
    }

    /// The PSNR of a picture, `x`, against number `image`, if there is such a one.
    pub fn psnr(&self, x: &[f32], image: usize) -> Option<f64> {
        let n = x.len().max(1);
        match self {
            Self::Bytes(_, bytes) => {
                bytes.chunks_exact(n).nth(image).map(|t| psnr_of(x, t.iter().map(|&byte| value(byte))))
            }
            Self::Values(array) => array.data.chunks_exact(n).nth(image).map(|t| psnr_of(x, t.iter().copied())),
        }
    }

    /// As an array.
    pub fn array(self) -> Array {
        match self {
            Self::Bytes(shape, bytes) => Array { shape, data: bytes.into_iter().map(value).collect() },
            Self::Values(array) => array,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_were_read_and_other_values_stay() {
        let all = Array { shape: vec![2, 128], data: (0..=255).map(|b| b as f32 / 127.5 - 1.0).collect() };
        let truth = Truth::new(all.clone());
        assert_eq!(truth.bytes(), 256);
        let x: Vec<f32> = (0..128).map(|i| (i as f32).sin()).collect();
        let values = Truth::Values(all.clone());
        for image in 0..3 {
            assert_eq!(truth.psnr(&x, image), values.psnr(&x, image));
        }
        assert!(truth.psnr(&x, 1).is_some() && truth.psnr(&x, 2).is_none());
        assert_eq!(truth.array(), all);
        for odd in [0.1, -1.5, 1.01, f32::NAN] {
            let one = Truth::new(Array { shape: vec![1, 1], data: vec![odd] });
            assert_eq!((one.bytes(), one.array().data[0].to_bits()), (4, odd.to_bits()));
        }
    }
}
