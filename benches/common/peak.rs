//! The speed of fused multiply-adds on registers alone, by which benches measure themselves.

use std::hint::black_box;
use std::time::Instant;

use undiffuse::backend::cpu::{Cpu, Path};

/// GFLOP/s of one thread on the path of `cpu`; take the best of several.
pub fn gflops(cpu: &Cpu) -> f64 {
    const STEPS: usize = 200_000;
    let start = Instant::now();
    let flops = match cpu.path() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a Cpu has only a path whose features were found.
        Path::Avx512 => unsafe { x86::avx512(STEPS) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a Cpu has only a path whose features were found.
        Path::Avx2 => unsafe { x86::avx2(STEPS) },
        _ => plain(STEPS),
    };
    flops as f64 / start.elapsed().as_secs_f64() / 1e9
}

fn plain(steps: usize) -> usize {
    let mut acc = [[1.0f32; 4]; 8];
    let (a, b) = (black_box([0.999f32; 4]), black_box([0.001f32; 4]));
    for _ in 0..steps {
        for v in &mut acc {
            for (i, x) in v.iter_mut().enumerate() {
                *x = *x * a[i] + b[i];
            }
        }
    }
    black_box(acc);
    2 * 32 * steps
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx512f")]
    pub fn avx512(steps: usize) -> usize {
        let mut acc = [_mm512_set1_ps(1.0); 12];
        let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        for _ in 0..steps {
            for v in &mut acc {
                *v = _mm512_fmadd_ps(*v, a, b);
            }
        }
        black_box(acc);
        2 * 16 * 12 * steps
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn avx2(steps: usize) -> usize {
        let mut acc = [_mm256_set1_ps(1.0); 12];
        let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
        for _ in 0..steps {
            for v in &mut acc {
                *v = _mm256_fmadd_ps(*v, a, b);
            }
        }
        black_box(acc);
        2 * 8 * 12 * steps
    }
}
