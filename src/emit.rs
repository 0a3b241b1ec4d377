//! What is known when a program is built, as the text of Rust: values become expressions, long ones statics, floats a
//! part of one block of bytes. The names in the text are those of [`embed::parts`](crate::embed::parts).
//!
//! Only the feature `embed` has the writer; without it [`Emit`] is an empty trait that every type has, so that what
//! runs on a device carries none of it.

#[cfg(not(feature = "embed"))]
pub trait Emit {}

#[cfg(not(feature = "embed"))]
impl<T: ?Sized> Emit for T {}

#[cfg(feature = "embed")]
pub use writer::{Emit, Emitter};

#[cfg(feature = "embed")]
mod writer {
    use alloc::borrow::Cow;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;
    use core::fmt::Write;

    use crate::error::Result;
    use crate::tensor::Dims;

    /// Where floats begin in the block: a cache line, which suits every path.
    const ALIGNMENT: usize = 64;

    /// A value that can stand in a program.
    pub trait Emit {
        /// An expression that is this value. Errors (kind `Unsupported`): it cannot be one, named.
        fn emit(&self, to: &mut Emitter) -> Result<String>;
    }

    /// The statics and the block of bytes that expressions refer to.
    #[derive(Default)]
    pub struct Emitter {
        statics: String,
        count: usize,
        bytes: Vec<u8>,
        shared: Vec<(usize, String)>,
    }

    impl Emitter {
        /// A new static; gives its name.
        pub fn item(&mut self, of: &str, value: &str) -> String {
            let name = format!("S{}", self.count);
            self.count += 1;
            // Writing to a string cannot fail.
            _ = writeln!(self.statics, "static {name}: {of} = {value};");
            name
        }

        /// The static of what several values refer to, made once.
        pub fn once<T: Emit>(&mut self, of: &str, value: &T) -> Result<String> {
            let address = core::ptr::from_ref(value).addr();
            if let Some((_, name)) = self.shared.iter().find(|(a, _)| *a == address) {
                return Ok(name.clone());
            }
            let text = value.emit(self)?;
            let name = self.item(of, &text);
            self.shared.push((address, name.clone()));
            Ok(name)
        }

        /// A list of values that cannot stand in a constant by themselves.
        pub fn list<T: Emit>(&mut self, of: &str, values: &[T]) -> Result<String> {
            let text = items(values, self)?;
            let name = self.item(&format!("[{of}; {}]", values.len()), &text);
            Ok(format!("Cow::Borrowed(&{name})"))
        }

        /// Floats in the block, as an expression of a slice. Bits are kept, whatever they mean.
        pub fn floats(&mut self, values: &[f32]) -> String {
            if values.is_empty() {
                return String::from("&[]");
            }
            self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
            let at = self.bytes.len();
            self.bytes.extend(values.iter().flat_map(|v| v.to_bits().to_le_bytes()));
            format!("WEIGHTS.floats({at}, {})", values.len())
        }

        /// The statics and the block.
        pub fn finish(self) -> (String, Vec<u8>) {
            (self.statics, self.bytes)
        }
    }

    fn items<T: Emit>(values: &[T], to: &mut Emitter) -> Result<String> {
        let mut text = String::from("[");
        for v in values {
            text.push_str(&v.emit(to)?);
            text.push_str(", ");
        }
        text.push(']');
        Ok(text)
    }

    macro_rules! shown {
        ($($type:ty),*) => {$(
            impl Emit for $type {
                fn emit(&self, _: &mut Emitter) -> Result<String> {
                    Ok(format!("{self:?}"))
                }
            }
        )*};
    }
    shown!(bool, u64, usize, &'static str);

    macro_rules! float {
        ($($type:ident),*) => {$(
            impl Emit for $type {
                fn emit(&self, _: &mut Emitter) -> Result<String> {
                    // The shortest digits that give the number back.
                    Ok(if self.is_finite() { format!("{self:?}") } else {
                        format!(concat!(stringify!($type), "::from_bits({})"), self.to_bits())
                    })
                }
            }
        )*};
    }
    float!(f32, f64);

    impl Emit for Dims {
        fn emit(&self, _: &mut Emitter) -> Result<String> {
            Ok(format!("Dims::known(&{self:?})"))
        }
    }

    impl<T: Emit> Emit for Option<T> {
        fn emit(&self, to: &mut Emitter) -> Result<String> {
            self.as_ref().map_or_else(|| Ok(String::from("None")), |v| Ok(format!("Some({})", v.emit(to)?)))
        }
    }

    impl<T: Emit, const N: usize> Emit for [T; N] {
        fn emit(&self, to: &mut Emitter) -> Result<String> {
            items(self, to)
        }
    }

    impl<A: Emit, B: Emit> Emit for (A, B) {
        fn emit(&self, to: &mut Emitter) -> Result<String> {
            Ok(format!("({}, {})", self.0.emit(to)?, self.1.emit(to)?))
        }
    }

    impl<T: Emit + Clone> Emit for Cow<'static, [T]> {
        fn emit(&self, to: &mut Emitter) -> Result<String> {
            Ok(format!("Cow::Borrowed(&{})", items(self, to)?))
        }
    }

    impl<T: Emit + ?Sized> Emit for &T {
        fn emit(&self, to: &mut Emitter) -> Result<String> {
            (**self).emit(to)
        }
    }
}

/// Makes structs expressions: `emits! { Point { x, y } }`, with all of their fields.
#[cfg(feature = "embed")]
macro_rules! emits {
    ($($type:ident { $($field:ident),* $(,)? })*) => {$(
        impl $crate::emit::Emit for $type {
            fn emit(&self, to: &mut $crate::emit::Emitter) -> $crate::Result<alloc::string::String> {
                let mut text = alloc::string::String::from(concat!(stringify!($type), " { "));
                $(
                    text.push_str(concat!(stringify!($field), ": "));
                    text.push_str(&$crate::emit::Emit::emit(&self.$field, to)?);
                    text.push_str(", ");
                )*
                text.push('}');
                Ok(text)
            }
        }
    )*};
}

/// Makes types whose `Debug` is an expression, behind a prefix, expressions.
#[cfg(feature = "embed")]
macro_rules! emits_shown {
    ($($type:ty => $prefix:literal),* $(,)?) => {$(
        impl $crate::emit::Emit for $type {
            fn emit(&self, _: &mut $crate::emit::Emitter) -> $crate::Result<alloc::string::String> {
                Ok(alloc::format!(concat!($prefix, "{:?}"), self))
            }
        }
    )*};
}

#[cfg(feature = "embed")]
pub(crate) use {emits, emits_shown};
