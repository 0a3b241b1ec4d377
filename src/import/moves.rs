//! What moves values about or bounds them: parts, joins, padding, resizing.

use alloc::vec::Vec;

use super::attributes::Attributes;
use super::dispatch::Arguments;
use super::fold;
use super::tensor::Tensor;
use super::translate::{Sym, Translator};
use super::value::Value;
use crate::error::{Result, ensure, err};
use crate::graph::{Activation, Op, Padding};

impl<'a> Translator<'a> {
    /// Entries `start .. start + len` of an axis.
    pub fn part(&mut self, x: &Value, axis: usize, start: usize, len: usize) -> Result<Value> {
        let n = x.shape[axis];
        let inside = len > 0 && start.checked_add(len).is_some_and(|end| end <= n);
        ensure!(inside, Unsupported, "{len} entries of axis {axis} of {:?} from {start} on", x.shape);
        if len == n {
            return Ok(x.clone());
        }
        let first_position = x.positions().first() == Some(&axis);
        let x = match x.channels().first() == Some(&axis) || first_position {
            true => x.clone(),
            // Of channels the axis comes first, the others stay channels.
            false if x.channels().contains(&axis) => {
                let rest = x.channels().iter().copied().filter(|&c| c != axis);
                let channels: Vec<usize> = [axis].into_iter().chain(rest).collect();
                self.arrange(x, &channels)?
            }
            false => self.arrange(x, &[axis])?,
        };
        let inner = match first_position {
            true => x.product(&x.positions()[1..]),
            false => x.product(&x.channels()[1..]),
        };
        let (start, run) = (start.saturating_mul(inner), len.saturating_mul(inner));
        let op = match first_position {
            true => Op::SlicePositions { start, len: run },
            false => Op::SliceChannels { start, len: run },
        };
        let at = self.push(op, &[x.at])?;
        let mut made = x.like(at);
        made.whole = x.whole;
        made.shape[axis] = len;
        if len == 1 {
            made.k -= usize::from(made.channels().contains(&axis));
            made.order.retain(|&a| a != axis);
        }
        let at = self.redimension(at, &made.dims())?;
        Ok(Value { at, ..made })
    }

    /// The entries of an axis from the last to the first.
    pub fn reversed(&mut self, x: &Value, axis: usize) -> Result<Value> {
        let n = x.shape[axis];
        ensure!(n <= 64, Unsupported, "the {n} entries of axis {axis} in reverse order, expected at most 64");
        let parts: Vec<Sym> = (0..n).rev().map(|i| self.part(x, axis, i, 1).map(Sym::Value)).collect::<Result<_>>()?;
        let made = self.concat(&parts.iter().collect::<Vec<_>>(), axis as i64)?;
        self.value(&made)
    }

    pub fn concat(&mut self, list: &[&Sym], axis: i64) -> Result<Sym> {
        if let [one] = list {
            return Ok((*one).clone());
        }
        let shapes: Option<Vec<Vec<usize>>> = list.iter().map(|s| s.shape()).collect();
        let shapes = shapes.ok_or_else(|| err!(Unsupported, "parts of patterns are put together"))?;
        let rank = shapes[0].len();
        let axis = fold::axis(axis, rank)?;
        let mut shape = shapes[0].clone();
        shape[axis] = 0;
        for s in &shapes {
            let fits = s.len() == rank && (0..rank).all(|i| i == axis || s[i] == shape[i]);
            ensure!(fits, Shape, "values of {:?} and {s:?} put together along axis {axis}", shapes[0]);
            shape[axis] = shape[axis].saturating_add(s[axis]);
        }
        if let [Sym::Angle(first), Sym::Angle(second)] = list
            && let Some(made) = self.embedding(first, second, &shape)?
        {
            return Ok(made);
        }
        let mut values = Vec::new();
        for sym in list {
            values.push(match sym {
                Sym::Const(t) => self.known(t)?,
                other => self.value(other)?,
            });
        }
        if let Some(op) = self.turned(&values) {
            let args = self.node(values[0].at).and_then(|n| self.node(*n.args.first()?)).map(|n| n.args.clone());
            let at = self.push(op, &args.unwrap_or_default())?;
            return Ok(Sym::Value(Value::new(at, &shape, rank)));
        }
        // The layout of the part that has most of the axis.
        let like = values.iter().max_by_key(|v| v.shape[axis]).cloned();
        let like = like.ok_or_else(|| err!(InvalidArgument, "nothing is put together"))?;
        let in_positions = like.positions().first() == Some(&axis);
        let channels = match like.channels().contains(&axis) {
            true => [axis].into_iter().chain(like.channels().iter().copied().filter(|&c| c != axis)).collect(),
            false if in_positions => like.channels().to_vec(),
            false => alloc::vec![axis],
        };
        // An axis of one entry in all of them is put in where it belongs.
        let rest = like.order.iter().copied().filter(|a| !channels.contains(a));
        let order: Vec<usize> = channels.iter().copied().chain(rest).collect();
        let mut parts = Vec::new();
        for v in &values {
            let k = v.real(&channels).len();
            let v = self.permute(v, &v.real(&order), k)?;
            let c: usize = channels.iter().map(|&a| v.shape[a]).product();
            let dims: Vec<usize> = match in_positions {
                true => alloc::vec![c, v.size() / c],
                false => [&[c][..], &order[channels.len()..].iter().map(|&a| v.shape[a]).collect::<Vec<_>>()].concat(),
            };
            // Beyond four dimensions the positions are one.
            let dims = if dims.len() > 4 { alloc::vec![c, v.size() / c] } else { dims };
            parts.push(self.redimension(v.at, &dims)?);
        }
        let at = self.push(if in_positions { Op::ConcatPositions } else { Op::Concat }, &parts)?;
        let mut made = Value { at, shape, order, k: channels.len(), whole: false };
        let k = made.real(&channels).len();
        made.order = made.real(&made.order);
        made.k = k;
        let at = self.redimension(at, &made.dims())?;
        Ok(Sym::Value(Value { at, ..made }))
    }

    /// A constant as a value of its own.
    fn known(&mut self, t: &Tensor) -> Result<Value> {
        let param = self.param(t, &[t.len()])?;
        let at = self.push(Op::Parameter { param, dims: crate::tensor::Dims::new(&[t.len()])? }, &[])?;
        let made = Value::new(at, &t.shape, 1);
        let at = self.redimension(at, &made.dims())?;
        Ok(Value { at, ..made })
    }

    pub fn pad(&mut self, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let x = self.value(of.need(0)?)?;
        let mode = a.text("mode", "constant")?;
        let rank = x.shape.len();
        let pads = a.ints_or("pads", of.constant(1)?)?.unwrap_or_default();
        let value = of.constant(2)?.and_then(Tensor::single).unwrap_or(f64::from(a.float("value", 0.0)?));
        let along = match of.constant(3)? {
            Some(t) => fold::axes(t.whole("the axes")?, rank)?,
            None => (0..rank).collect(),
        };
        ensure!(pads.len() == 2 * along.len(), Shape, "{} paddings of {} axes", pads.len(), along.len());
        let size = |v: i64| {
            let v = usize::try_from(v).ok().filter(|&v| v <= 1 << 20);
            v.ok_or_else(|| err!(Unsupported, "a padding of {pads:?}, expected sizes"))
        };
        let mut by = alloc::vec![[0usize; 2]; rank];
        for (i, &axis) in along.iter().enumerate() {
            by[axis] = [size(pads[i])?, size(pads[i + along.len()])?];
        }
        if by.iter().all(|b| *b == [0, 0]) {
            return Ok(Sym::Value(x));
        }
        if let ("constant", Some(axis)) = (mode.as_str(), (0..rank).find(|&i| by[i] != [0, 0]))
            && by.iter().filter(|b| **b != [0, 0]).count() == 1
            && (axis + 2 < rank || rank < 3)
            && value == 0.0
        {
            return self.pad_channels(&x, axis, by[axis]).map(Sym::Value);
        }
        let image = (3..=4).contains(&rank) && by[0] == [0, 0] && by[1] == [0, 0];
        ensure!(image, Unsupported, "a padding of {pads:?} of {:?}, expected one of images or of channels", x.shape);
        let [left, right] = by[rank - 1];
        let [top, bottom] = if rank == 4 { by[2] } else { [0, 0] };
        match mode.as_str() {
            "constant" => {
                ensure!(value == 0.0, Unsupported, "a padding of {value}, expected 0");
                Ok(Sym::Padded(x, [top, bottom, left, right]))
            }
            "reflect" if rank == 4 => {
                let at = self.image(&x)?;
                let at = self.push(Op::ReflectPad(Padding { top, bottom, left, right }), &[at])?;
                let shape = super::translate::padded_shape(&x, &[top, bottom, left, right]);
                let made = Value::new(at, &shape, usize::from(shape[1] != 1));
                let at = self.redimension(at, &made.dims())?;
                Ok(Sym::Value(Value { at, ..made }))
            }
            other => Err(err!(Unsupported, "a padding by {other:?}, expected constant or reflect")),
        }
    }

    fn pad_channels(&mut self, x: &Value, axis: usize, [before, after]: [usize; 2]) -> Result<Value> {
        let x = self.arrange(x, &[axis])?;
        let at = self.push(Op::PadChannels { before, after }, &[x.at])?;
        let mut made = x.like(at);
        if x.k == 0 {
            made.order.insert(0, axis);
            made.k = 1;
        }
        made.shape[axis] += before + after;
        Ok(made)
    }

    pub fn resize(&mut self, op: &str, a: &mut Attributes<'a>, of: &Arguments<'_>) -> Result<Sym> {
        let x = self.value(of.need(0)?)?;
        let mode = a.text("mode", "nearest")?;
        let default = if op == "Upsample" { "asymmetric" } else { "half_pixel" };
        let place = a.text("coordinate_transformation_mode", default)?;
        let rounding = a.text("nearest_mode", if op == "Upsample" { "floor" } else { "round_prefer_floor" })?;
        a.ignore(&["cubic_coeff_a", "exclude_outside", "extrapolation_value", "keep_aspect_ratio_policy"]);
        ensure!(
            a.ints("axes")?.is_none() && a.int("antialias", 0)? == 0,
            Unsupported,
            "its attributes axes or antialias"
        );
        let (scales, sizes) =
            if op == "Upsample" { (of.constant(1)?, None) } else { (of.constant(2)?, of.constant(3)?) };
        let n = x.shape.len();
        let to: Vec<usize> = match (scales.filter(|t| t.len() > 0), sizes.filter(|t| t.len() > 0)) {
            (_, Some(sizes)) => sizes.sizes("the sizes")?,
            (Some(s), _) if s.len() == n => {
                (0..n).map(|i| libm::floor(x.shape[i] as f64 * s.get(i)).clamp(0.0, 1e9) as usize).collect()
            }
            _ => return Err(err!(InvalidArgument, "neither scales nor sizes are given")),
        };
        let image = (3..=4).contains(&n) && to.len() == n && to[..2] == x.shape[..2] && !to.contains(&0);
        ensure!(image, Unsupported, "{:?} becomes {to:?}, expected an image of another size", x.shape);
        let factors: Vec<usize> = (2..n).map(|i| to[i] / x.shape[i]).collect();
        if mode == "linear" && matches!(place.as_str(), "half_pixel" | "pytorch_half_pixel") {
            return self.bilinear(&x, &to, &factors).map(Sym::Value);
        }
        let whole = (2..n).all(|i| factors[i - 2] > 0 && to[i] == factors[i - 2] * x.shape[i]);
        ensure!(
            mode == "nearest" && whole,
            Unsupported,
            "{mode} resizing of {:?} to {to:?}, expected pixels repeated as often everywhere",
            x.shape
        );
        // Where entry i comes from, as the file says; it must be i / factor.
        let source = |i: usize, n: usize, f: usize| -> Option<usize> {
            let (i, m, f) = (i as f64, (n * f) as f64, f as f64);
            let at = match place.as_str() {
                "asymmetric" => i / f,
                "half_pixel" | "half_pixel_symmetric" => (i + 0.5) / f - 0.5,
                "pytorch_half_pixel" if m > 1.0 => (i + 0.5) / f - 0.5,
                "pytorch_half_pixel" => 0.0,
                "align_corners" => i * (n as f64 - 1.0) / (m - 1.0).max(1.0),
                _ => return None,
            };
            let at = match rounding.as_str() {
                "floor" => libm::floor(at),
                "ceil" => libm::ceil(at),
                "round_prefer_floor" => libm::ceil(at - 0.5),
                "round_prefer_ceil" => libm::floor(at + 0.5),
                _ => return None,
            };
            Some(at.clamp(0.0, n as f64 - 1.0) as usize)
        };
        for (&n, &f) in x.shape[2..].iter().zip(&factors) {
            self.budget.pay(&[n, f])?;
            let repeats = (0..n * f).all(|i| source(i, n, f) == Some(i / f));
            ensure!(repeats, Unsupported, "resizing by {place:?} and {rounding:?}, expected what repeats pixels");
        }
        let at = self.rows(&x)?;
        let at = match *factors.as_slice() {
            [h, w] if h == w => self.push(Op::UpsampleNearest { factor: h }, &[at])?,
            ref other => {
                let factor = [if other.len() == 2 { other[0] } else { 1 }, other[other.len() - 1]];
                let copies = factor[0].saturating_mul(factor[1]);
                ensure!(copies <= 64, Unsupported, "pixels repeated {factor:?} times, expected at most 64");
                let at = self.push(Op::Concat, &alloc::vec![at; copies])?;
                self.push(Op::DepthToSpace { factor, blocks_first: true }, &[at])?
            }
        };
        self.of_rows(at, &x).map(Sym::Value)
    }

    /// Pixels repeated, and a filter at whose edge the outermost pixel goes on: its copies are beside it, so that
    /// mirroring says the same. Half the size is the mean of four.
    fn bilinear(&mut self, x: &Value, to: &[usize], factors: &[usize]) -> Result<Value> {
        let half = to.len() == 4 && (2..4).all(|i| to[i].checked_mul(2) == Some(x.shape[i]));
        let n = factors.first().copied().unwrap_or(0);
        let whole = to.len() == 4 && (1..=16).contains(&n) && (2..4).all(|i| to[i] == n * x.shape[i]);
        ensure!(
            half || whole,
            Unsupported,
            "linear resizing of {:?} to {to:?}, expected a whole factor or one half",
            x.shape
        );
        let at = self.rows(x)?;
        if half {
            let at = self.push(Op::AveragePool { factor: 2 }, &[at])?;
            return self.of_rows(at, x);
        }
        let part = 1.0 / n as f32;
        let mut taps = alloc::vec![part; n];
        if n.is_multiple_of(2) {
            taps[0] = part / 2.0;
            taps.push(part / 2.0);
        }
        let at = self.push(Op::UpsampleNearest { factor: n }, &[at])?;
        let at = self.push(Op::ReflectPad(Padding::all(n / 2)), &[at])?;
        let at = self.push(Op::Fir { taps, up: 1, down: 1, pad: [0, 0] }, &[at])?;
        self.of_rows(at, x)
    }

    pub fn pixels(&mut self, op: &str, x: &Value, n: usize, mode: &str) -> Result<Sym> {
        let &[1, c, h, w] = x.shape.as_slice() else {
            return Err(err!(Unsupported, "a value of {:?}, expected an image", x.shape));
        };
        ensure!(n > 0 && n <= 1 << 10, InvalidArgument, "blocks of {n}");
        let at = self.image(x)?;
        // DCR has the block before the channel, CRD the channel before the block; SpaceToDepth knows the first alone.
        let blocks_first = mode == "DCR";
        ensure!(blocks_first || mode == "CRD", Unsupported, "the mode {mode:?}");
        let (op, shape) = match op {
            "DepthToSpace" => {
                let shape = [1, c / (n * n), h.saturating_mul(n), w.saturating_mul(n)];
                (Op::DepthToSpace { factor: [n, n], blocks_first }, shape)
            }
            _ => (Op::SpaceToDepth { factor: [n, n], blocks_first }, [1, c.saturating_mul(n * n), h / n, w / n]),
        };
        let at = self.push(op, &[at])?;
        let made = Value::new(at, &shape, usize::from(shape[1] != 1));
        let at = self.redimension(at, &made.dims())?;
        Ok(Sym::Value(Value { at, ..made }))
    }

    /// `min(max(x, low), high)`.
    pub fn clipped(&mut self, x: &Value, low: f64, high: f64) -> Result<Value> {
        let part = |this: &mut Self, from: f64| -> Result<Value> {
            let moved = this.affine(x, 1.0, -from)?;
            let at = this.push(Op::Activation(Activation::Relu), &[moved.at])?;
            Ok(x.like(at))
        };
        let (above_low, above_high) = (part(self, low)?, part(self, high)?);
        let made = self.between("Sub", &above_low, &above_high)?;
        self.affine(&made, 1.0, low)
    }

    pub fn clip(&mut self, x: &Sym, low: Option<f64>, high: Option<f64>) -> Result<Sym> {
        match (x, low, high) {
            (x, None, None) => Ok(x.clone()),
            (Sym::Moment(m), Some(low), None) => Ok(Sym::Moment(m.at_least(low)?)),
            (x, Some(low), None) => {
                let x = self.value(x)?;
                let moved = self.affine(&x, 1.0, -low)?;
                let at = self.push(Op::Activation(Activation::Relu), &[moved.at])?;
                Ok(Sym::Value(self.affine(&x.like(at), 1.0, low)?))
            }
            (x, None, Some(high)) => {
                let x = self.value(x)?;
                let moved = self.affine(&x, -1.0, high)?;
                let at = self.push(Op::Activation(Activation::Relu), &[moved.at])?;
                Ok(Sym::Value(self.affine(&x.like(at), -1.0, high)?))
            }
            (x, Some(low), Some(high)) => {
                ensure!((..=high).contains(&low), Unsupported, "values between {low} and {high}");
                let x = self.value(x)?;
                Ok(Sym::Value(self.clipped(&x, low, high)?))
            }
        }
    }

    /// The larger or smaller of a value and a number.
    pub fn clip_by(&mut self, a: &Sym, b: &Sym, max: bool) -> Result<Sym> {
        let (x, t) = match (a, b) {
            (x, Sym::Const(t)) | (Sym::Const(t), x) => (x, t),
            _ => return Err(err!(Unsupported, "the larger or smaller of two values, expected a constant")),
        };
        let n = t.single().ok_or_else(|| err!(Unsupported, "the larger or smaller of a value and {:?}", t.shape))?;
        if max { self.clip(x, Some(n), None) } else { self.clip(x, None, Some(n)) }
    }

    pub fn prelu(&mut self, x: &Sym, slope: &Tensor) -> Result<Sym> {
        let x = self.value(x)?;
        if let Some(slope) = slope.uniform() {
            return self.unary(&Sym::Value(x), Activation::LeakyRelu { slope: slope as f32 });
        }
        let above = self.unary(&Sym::Value(x.clone()), Activation::Relu)?;
        let minus = self.affine(&x, -1.0, 0.0)?;
        let below = self.unary(&Sym::Value(minus), Activation::Relu)?;
        let below = self.arithmetic("Mul", &below, &Sym::Const(slope.clone()))?;
        self.arithmetic("Sub", &above, &below)
    }
}
