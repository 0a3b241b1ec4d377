//! The few operations that schedules and step scalars need, in f32 or f64.

use core::ops::{Add, Div, Mul, Sub};

/// f32 or f64. Every operation rounds once, in the type's own precision.
pub(crate) trait Real:
    Copy + PartialOrd + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    const ONE: Self;
    fn of(value: f64) -> Self;
    fn f64(self) -> f64;
    fn sqrt(self) -> Self;
    /// `self * a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Correctly rounded to f32 by way of f64 in the f32 case.
    fn exp(self) -> Self;
    fn ln(self) -> Self;
}

impl Real for f32 {
    const ONE: Self = 1.0;
    fn of(value: f64) -> Self {
        value as f32
    }
    fn f64(self) -> f64 {
        f64::from(self)
    }
    fn sqrt(self) -> Self {
        libm::sqrtf(self)
    }
    fn mul_add(self, a: Self, b: Self) -> Self {
        libm::fmaf(self, a, b)
    }
    fn exp(self) -> Self {
        libm::exp(f64::from(self)) as f32
    }
    fn ln(self) -> Self {
        libm::log(f64::from(self)) as f32
    }
}

impl Real for f64 {
    const ONE: Self = 1.0;
    fn of(value: f64) -> Self {
        value
    }
    fn f64(self) -> f64 {
        self
    }
    fn sqrt(self) -> Self {
        libm::sqrt(self)
    }
    fn mul_add(self, a: Self, b: Self) -> Self {
        libm::fma(self, a, b)
    }
    fn exp(self) -> Self {
        libm::exp(self)
    }
    fn ln(self) -> Self {
        libm::log(self)
    }
}
