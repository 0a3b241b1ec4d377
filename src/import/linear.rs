//! Convolutions, linear maps and pooling.

use alloc::vec::Vec;

use super::attributes::Attributes;
use super::dispatch::Arguments;
use super::tensor::Tensor;
use super::translate::{Sym, Translator};
use super::value::Value;
use crate::error::{Result, ensure, err};
use crate::graph::{Kernel, Op, Padding, Window};
use crate::tensor::Dims;

impl<'a> Translator<'a> {
    /// The window of a convolution or of pooling whose kernel has these sides, and what it pads.
    fn window(&mut self, a: &mut Attributes<'a>, kernel: &[usize], x: &Value) -> Result<Window> {
        let n = kernel.len();
        ensure!(
            (1..=2).contains(&n) && x.shape.len() == n + 2,
            Unsupported,
            "a kernel of {kernel:?} on a value of {:?}, expected one or two dimensions",
            x.shape
        );
        let auto = a.text("auto_pad", "NOTSET")?;
        ensure!(matches!(auto.as_str(), "NOTSET" | "VALID" | ""), Unsupported, "its attribute auto_pad is {auto:?}");
        let mut list = |name: &str, len: usize, default: i64| -> Result<Vec<usize>> {
            let given = a.ints(name)?.unwrap_or_else(|| alloc::vec![default; len]);
            let sizes: Option<Vec<usize>> = given.iter().map(|&v| usize::try_from(v).ok()).collect();
            let sizes = sizes.filter(|s| s.len() == len && s.iter().all(|&v| v <= 1 << 20));
            sizes.ok_or_else(|| err!(InvalidArgument, "its attribute {name} is {given:?}, expected {len} sizes"))
        };
        let (strides, dilations, pads) = (list("strides", n, 1)?, list("dilations", n, 1)?, list("pads", 2 * n, 0)?);
        if let Some(said) = a.ints("kernel_shape")? {
            let same = said.len() == n && said.iter().zip(kernel).all(|(&s, &k)| usize::try_from(s) == Ok(k));
            ensure!(same, Shape, "its attribute kernel_shape is {said:?}, expected {kernel:?}");
        }
        let alike = |v: &[usize]| v.iter().all(|s| *s == v[0]);
        ensure!(
            alike(&strides) && alike(&dilations),
            Unsupported,
            "strides of {strides:?} and dilations of {dilations:?}, expected the same in both directions"
        );
        let padding = match *pads.as_slice() {
            [left, right] => Padding { top: 0, bottom: 0, left, right },
            [top, left, bottom, right] => Padding { top, bottom, left, right },
            _ => return Err(err!(Unsupported, "padding of {pads:?}")),
        };
        let mut window = Window::new([if n == 1 { 1 } else { kernel[0] }, kernel[n - 1]], strides[0], padding);
        window.dilation = dilations[0];
        window.groups = a.size("group", 1)?;
        Ok(window)
    }

    /// `[C, H, W]`, with one row where the value has but one direction.
    pub fn rows(&mut self, x: &Value) -> Result<crate::graph::ValueId> {
        let at = self.image(x)?;
        match *x.shape.as_slice() {
            [_, c, l] => self.redimension(at, &[c, 1, l]),
            _ => Ok(at),
        }
    }

    /// What was made of [`Translator::rows`], as a value of as many directions as before.
    pub fn of_rows(&mut self, at: crate::graph::ValueId, x: &Value) -> Result<Value> {
        let dims = self.builder.dims(at)?;
        let shape = match *dims.as_slice() {
            [c, _, l] if x.shape.len() == 3 => alloc::vec![1, c, l],
            [c, h, w] => alloc::vec![1, c, h, w],
            _ => return Err(err!(Shape, "an image of {dims}")),
        };
        let k = usize::from(shape[1] != 1);
        let made = Value::new(at, &shape, k);
        let at = self.redimension(at, &made.dims())?;
        Ok(Value { at, ..made })
    }

    fn one_sample(x: &Value) -> Result<()> {
        ensure!(x.shape.first() == Some(&1), Unsupported, "a value of {:?}, expected a batch of 1", x.shape);
        Ok(())
    }

    pub fn conv(&mut self, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let (x, pad) = match of.need(0)? {
            Sym::Padded(v, pad) => (v.clone(), *pad),
            other => (self.value(other)?, [0; 4]),
        };
        Self::one_sample(&x)?;
        let (weight, bias) = (of.need_constant(1)?, of.constant(2)?);
        ensure!(weight.shape.len() >= 3, Shape, "a kernel of {:?}", weight.shape);
        let mut window = self.window(a, &weight.shape[2..], &x)?;
        let p = &mut window.padding;
        for (side, by) in [&mut p.top, &mut p.bottom, &mut p.left, &mut p.right].into_iter().zip(pad) {
            *side += by;
        }
        let at = self.rows(&x)?;
        let bias = bias.map(|b| self.param(b, &[weight.shape[0]])).transpose()?;
        let kernel = Kernel { weight: self.param(weight, &weight.shape)?, bias };
        let at = self.push(Op::Conv2d { window, kernel }, &[at])?;
        self.of_rows(at, &x).map(Sym::Value)
    }

    pub fn conv_transpose(&mut self, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let x = self.value(of.need(0)?)?;
        Self::one_sample(&x)?;
        let (weight, bias) = (of.need_constant(1)?, of.constant(2)?);
        ensure!(weight.shape.len() >= 3, Shape, "a kernel of {:?}", weight.shape);
        let window = self.window(a, &weight.shape[2..], &x)?;
        ensure!(a.ints("output_shape")?.is_none(), Unsupported, "its attribute output_shape is given");
        let more = a.ints("output_padding")?.unwrap_or_default();
        let more = |i: usize| more.get(i).map_or(Some(0), |&v| usize::try_from(v).ok());
        let at = self.rows(&x)?;
        let &[_, h, w] = self.builder.dims(at)?.as_slice() else { return Err(err!(Shape, "a value of {:?}", x.shape)) };
        let (p, [kh, kw]) = (window.padding, window.span());
        let side = |n: usize, k: usize, pads: usize, more: Option<usize>| {
            (n - 1).checked_mul(window.stride)?.checked_add(k)?.checked_add(more?)?.checked_sub(pads)
        };
        let one = x.shape.len() == 3;
        // The only row of a value of one direction stays one.
        let rows = if one { Some(1) } else { side(h, kh, p.top + p.bottom, more(0)) };
        let sides = rows.zip(side(w, kw, p.left + p.right, more(usize::from(!one))));
        let (h, w) = sides.ok_or_else(|| err!(Shape, "a transposed convolution of {:?} by {window:?}", x.shape))?;
        let out = weight.shape[1].saturating_mul(window.groups);
        let param = self.param(weight, &weight.shape)?;
        let at = self.push(Op::ConvAdjoint { window, weight: param, dims: Dims::new(&[out, h, w])? }, &[at])?;
        let made = self.of_rows(at, &x)?;
        let Some(bias) = bias else { return Ok(Sym::Value(made)) };
        let mut along = alloc::vec![1; made.shape.len()];
        along[1] = out;
        ensure!(bias.len() == out, Shape, "{} offsets of {out} channels", bias.len());
        self.arithmetic("Add", &Sym::Value(made), &Sym::Const(bias.with_shape(&along)))
    }

    /// A linear map of one axis, by a matrix `[out, in]`.
    pub fn linear(&mut self, x: &Value, axis: usize, matrix: &Tensor, bias: Option<&Tensor>) -> Result<Value> {
        let (out, n) = (matrix.shape[0], matrix.shape[1]);
        ensure!(x.shape.get(axis) == Some(&n), Shape, "axis {axis} of {:?} times a matrix [{out}, {n}]", x.shape);
        let x = self.arrange(x, &[axis])?;
        let bias = bias.map(|b| self.param(b, &[out])).transpose()?;
        let weight = self.param(matrix, &[out, n])?;
        let at = self.push(Op::Linear(Kernel { weight, bias }), &[x.at])?;
        let mut made = x.like(at);
        let positions = x.positions().to_vec();
        made.shape[axis] = out;
        made.order = if out == 1 { Vec::new() } else { alloc::vec![axis] };
        made.k = made.order.len();
        made.order.extend(positions);
        Ok(made)
    }

    pub fn gemm(&mut self, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let x = self.value(of.need(0)?)?;
        let (alpha, beta) = (a.float("alpha", 1.0)?, a.float("beta", 1.0)?);
        let (trans_a, trans_b) = (a.int("transA", 0)? != 0, a.int("transB", 0)? != 0);
        let (matrix, bias) = (of.need_constant(1)?, of.get(2));
        ensure!(matrix.shape.len() == 2 && x.shape.len() == 2 && !trans_a, Unsupported, "a product of {:?}", x.shape);
        let mut matrix = matrix.clone();
        if !trans_b {
            self.budget.pay(&matrix.shape)?;
            matrix = matrix.transposed(&[1, 0]);
        }
        if alpha != 1.0 {
            matrix = self.mapped(&matrix, |v| v * alpha)?;
        }
        let out = matrix.shape[0];
        match bias {
            None => self.linear(&x, 1, &matrix, None).map(Sym::Value),
            Some(Sym::Const(b)) if b.len() == out => {
                let b = if beta == 1.0 { b.clone() } else { self.mapped(b, |v| v * beta)? };
                self.linear(&x, 1, &matrix, Some(&b)).map(Sym::Value)
            }
            Some(other) => {
                let made = self.linear(&x, 1, &matrix, None)?;
                let by = Sym::Const(Tensor::floats(&[], alloc::vec![beta]));
                let other = if beta == 1.0 { other.clone() } else { self.arithmetic("Mul", other, &by)? };
                self.arithmetic("Add", &Sym::Value(made), &other)
            }
        }
    }

    fn pooled(&mut self, a: &mut Attributes<'a>, x: &Value) -> Result<Window> {
        Self::one_sample(x)?;
        let sides = a.ints("kernel_shape")?.unwrap_or_default();
        let sides: Option<Vec<usize>> = sides.iter().map(|&v| usize::try_from(v).ok().filter(|v| *v > 0)).collect();
        let sides = sides.filter(|s| s.len() + 2 == x.shape.len());
        let sides =
            sides.ok_or_else(|| err!(InvalidArgument, "its attribute kernel_shape does not fit {:?}", x.shape))?;
        let up = a.int("ceil_mode", 0)? != 0;
        let window = self.window(a, &sides, x)?;
        let p = window.padding;
        // Rounding up makes no difference where whole windows fill the value.
        let spatial = &x.shape[2..];
        let pads = if sides.len() == 1 {
            alloc::vec![p.left + p.right]
        } else {
            alloc::vec![p.top + p.bottom, p.left + p.right]
        };
        let fills = (0..sides.len()).all(|i| {
            (spatial[i] + pads[i]).checked_sub(sides[i]).is_some_and(|rest| rest.is_multiple_of(window.stride.max(1)))
        });
        ensure!(!up || fills, Unsupported, "pooling of {:?} that is rounded up", x.shape);
        Ok(window)
    }

    pub fn average_pool(&mut self, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let x = self.value(of.need(0)?)?;
        a.ignore(&["count_include_pad"]);
        let window = self.pooled(a, &x)?;
        let one = x.shape.len() == 3;
        let k = window.kernel[1];
        let tiles = window.stride == k && window.padding == Padding::default() && window.dilation == 1;
        ensure!(
            tiles && window.kernel[0] == k && !one,
            Unsupported,
            "average pooling by {:?} of stride {}, expected square windows of an image side by side",
            window.kernel,
            window.stride
        );
        let at = self.rows(&x)?;
        let at = self.push(Op::AveragePool { factor: k }, &[at])?;
        self.of_rows(at, &x).map(Sym::Value)
    }

    pub fn max_pool(&mut self, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let x = self.value(of.need(0)?)?;
        a.ignore(&["storage_order"]);
        let window = self.pooled(a, &x)?;
        ensure!(x.shape.len() == 4, Unsupported, "pooling of {:?}, expected an image", x.shape);
        let at = self.rows(&x)?;
        let at = self.push(Op::MaxPool(window), &[at])?;
        self.of_rows(at, &x).map(Sym::Value)
    }

    /// Zeros around an image that no convolution takes in: a convolution by 1 for each channel does.
    pub fn settle_padding(&mut self, x: &Value, pad: &[usize; 4]) -> Result<Value> {
        let c = x.shape.get(1).copied().unwrap_or(1);
        self.budget.pay(&[c])?;
        let ones = Tensor::floats(&[c, 1, 1, 1], alloc::vec![1.0; c]);
        let weight = self.param(&ones, &[c, 1, 1, 1])?;
        let [top, bottom, left, right] = *pad;
        let mut window = Window::new([1, 1], 1, Padding { top, bottom, left, right });
        window.groups = c;
        let at = self.rows(x)?;
        let at = self.push(Op::Conv2d { window, kernel: Kernel { weight, bias: None } }, &[at])?;
        self.of_rows(at, x)
    }
}
