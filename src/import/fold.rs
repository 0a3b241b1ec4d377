//! What is known without running the file: arithmetic on shapes, constants made of constants. Every operation gives
//! what ONNX says, floats rounded to f32 after each.

use alloc::vec::Vec;

use super::attributes::Attributes;
use super::tensor::{MOST_AXES, Tensor, broadcast, count, is_float, places, strides};
use crate::error::{Result, ensure, err};

/// How many elements may still be made.
#[derive(Debug)]
pub(super) struct Budget(pub u64);

impl Budget {
    /// The number of elements of a shape, paid for.
    pub fn pay(&mut self, shape: &[usize]) -> Result<usize> {
        let n = count(shape)?;
        let left = self.0.checked_sub(n as u64);
        self.0 = left.ok_or_else(|| {
            err!(Unsupported, "constants of {shape:?} and others are more elements than the file has reason for")
        })?;
        Ok(n)
    }
}

/// The axis of a rank that a number names.
pub(super) fn axis(number: i64, rank: usize) -> Result<usize> {
    let n = if number < 0 { number.checked_add(rank as i64) } else { Some(number) };
    n.and_then(|n| usize::try_from(n).ok())
        .filter(|&n| n < rank)
        .ok_or_else(|| err!(InvalidArgument, "axis {number} of {rank} dimensions"))
}

/// Axes of a rank, none of them twice.
pub(super) fn axes(numbers: &[i64], rank: usize) -> Result<Vec<usize>> {
    let most = rank.min(MOST_AXES);
    ensure!(numbers.len() <= most, InvalidArgument, "{} axes of {rank} dimensions", numbers.len());
    let mut list = Vec::new();
    for &n in numbers {
        let a = axis(n, rank)?;
        ensure!(!list.contains(&a), InvalidArgument, "axis {n} stands twice in {numbers:?}");
        list.push(a);
    }
    Ok(list)
}

/// The shape that Reshape asks for.
pub(super) fn reshaped(old: &[usize], asked: &[i64], allow_zero: bool) -> Result<Vec<usize>> {
    ensure!(asked.len() <= MOST_AXES, Unsupported, "a value of {} dimensions is asked for", asked.len());
    let refused = || err!(Shape, "a value of {old:?} cannot become {asked:?}");
    let mut shape = Vec::new();
    let mut open = None;
    for (i, &n) in asked.iter().enumerate() {
        shape.push(match n {
            0 if !allow_zero => *old.get(i).ok_or_else(refused)?,
            -1 => {
                ensure!(open.is_none(), Shape, "{asked:?} has two dimensions that are left open");
                open = Some(i);
                1
            }
            n => usize::try_from(n).map_err(|_| refused())?,
        });
    }
    let (total, known) = (count(old)?, count(&shape)?);
    if let Some(i) = open {
        let rest = total.checked_div(known).filter(|r| r * known == total).ok_or_else(refused)?;
        shape[i] = rest;
    }
    ensure!(count(&shape)? == total, Shape, "a value of {old:?} cannot become {asked:?}");
    Ok(shape)
}

/// The shape with axes of one entry put in, or taken out.
pub(super) fn unsqueezed(old: &[usize], numbers: &[i64]) -> Result<Vec<usize>> {
    let rank = old.len() + numbers.len();
    ensure!(rank <= MOST_AXES, Unsupported, "a value of {rank} dimensions is asked for");
    let new = axes(numbers, rank)?;
    let mut rest = old.iter();
    Ok((0..rank).map(|a| if new.contains(&a) { 1 } else { rest.next().copied().unwrap_or(1) }).collect())
}

pub(super) fn squeezed(old: &[usize], numbers: Option<&[i64]>) -> Result<Vec<usize>> {
    let out = match numbers {
        Some(numbers) => axes(numbers, old.len())?,
        None => (0..old.len()).filter(|&a| old[a] == 1).collect(),
    };
    if let Some(&a) = out.iter().find(|&&a| old[a] != 1) {
        return Err(err!(Shape, "axis {a} of {old:?} has more than one entry"));
    }
    Ok((0..old.len()).filter(|a| !out.contains(a)).map(|a| old[a]).collect())
}

/// Where a slice of an axis begins, how many entries it has, and how far apart they are.
pub(super) fn sliced(n: usize, start: i64, end: i64, step: i64) -> Result<(usize, usize, i64)> {
    ensure!(step != 0, InvalidArgument, "a slice in steps of 0");
    if n == 0 {
        return Ok((0, 0, step));
    }
    let (n, down) = (n as i64, step < 0);
    let place = |v: i64, low: i64, high: i64| (if v < 0 { v.saturating_add(n) } else { v }).clamp(low, high);
    let (from, to) = match down {
        true => (place(start, 0, n - 1), if end < -n { -1 } else { place(end, -1, n - 1) }),
        false => (place(start, 0, n), place(end, 0, n)),
    };
    let far = if down { from - to } else { to - from };
    let len = if far <= 0 { 0 } else { (far - 1) / step.saturating_abs() + 1 };
    Ok((from.max(0) as usize, len as usize, step))
}

/// The parts of Split: where each begins and how long it is.
pub(super) fn parts(n: usize, sizes: Option<&Tensor>, outputs: usize) -> Result<Vec<(usize, usize)>> {
    let sizes = match sizes {
        Some(t) => t.sizes("the sizes of a split")?,
        None => {
            ensure!(outputs > 0, InvalidArgument, "a split into no parts");
            let each = n.div_ceil(outputs);
            (0..outputs).map(|i| n.saturating_sub(i * each).min(each)).collect()
        }
    };
    let mut at = 0usize;
    let mut list = Vec::new();
    for len in sizes {
        list.push((at, len));
        at = at.saturating_add(len);
    }
    ensure!(at == n && list.len() == outputs, Shape, "a split of {n} entries into {list:?} for {outputs} outputs");
    Ok(list)
}

/// An operation of one argument on floats.
pub(super) fn function(op: &str) -> Option<fn(f64) -> f64> {
    Some(match op {
        "Neg" => |v| -v,
        "Sqrt" => libm::sqrt,
        "Exp" => libm::exp,
        "Log" => libm::log,
        "Sin" => libm::sin,
        "Cos" => libm::cos,
        "Reciprocal" => |v| 1.0 / v,
        "Abs" => libm::fabs,
        "Floor" => libm::floor,
        "Ceil" => libm::ceil,
        "Round" => libm::rint,
        "Relu" => |v| v.max(0.0),
        "Sigmoid" => |v| 1.0 / (1.0 + libm::exp(-v)),
        "Tanh" => libm::tanh,
        "Erf" => libm::erf,
        "Not" => |v| f64::from(u8::from(v == 0.0)),
        _ => return None,
    })
}

fn pair(op: &str, whole: bool) -> Option<fn(f64, f64) -> f64> {
    fn truth(is: bool) -> f64 {
        f64::from(u8::from(is))
    }
    Some(match op {
        "Add" => |a, b| a + b,
        "Sub" => |a, b| a - b,
        "Mul" => |a, b| a * b,
        "Div" if whole => |a, b| libm::trunc(a / b),
        "Div" => |a, b| a / b,
        "Pow" => libm::pow,
        "Mod" => |a, b| a - libm::floor(a / b) * b,
        "Min" => f64::min,
        "Max" => f64::max,
        "Equal" => |a, b| truth(a == b),
        "Greater" => |a, b| truth(a > b),
        "GreaterOrEqual" => |a, b| truth(a >= b),
        "Less" => |a, b| truth(a < b),
        "LessOrEqual" => |a, b| truth(a <= b),
        "And" => |a, b| truth(a != 0.0 && b != 0.0),
        "Or" => |a, b| truth(a != 0.0 || b != 0.0),
        _ => return None,
    })
}

/// Makes a tensor of numbers of either kind.
fn made(shape: &[usize], whole: bool, values: impl Iterator<Item = f64>) -> Result<Tensor> {
    if !whole {
        return Ok(Tensor::floats(shape, values.map(|v| v as f32).collect()));
    }
    let mut list = Vec::new();
    for v in values {
        // Beyond 2^53 a double has not every whole number; no size is there.
        ensure!((0.0..=9007199254740992.0).contains(&libm::fabs(v)), Unsupported, "the whole number {v} is too large");
        list.push(v as i64);
    }
    Ok(Tensor::ints(shape, list))
}

/// The values of an operation all of whose arguments are known, or `None` for one that is not computed here.
pub(super) fn fold(
    op: &str,
    a: &mut Attributes<'_>,
    args: &[Option<Tensor>],
    outputs: usize,
    budget: &mut Budget,
) -> Result<Option<Vec<Tensor>>> {
    let arg = |i: usize| {
        let got = args.get(i).and_then(Option::as_ref);
        got.ok_or_else(|| err!(InvalidArgument, "its argument {i} is missing"))
    };
    let given = |i: usize| args.get(i).and_then(Option::as_ref);
    if let Some(f) = function(op) {
        let x = arg(0)?;
        let n = budget.pay(&x.shape)?;
        return Ok(Some(alloc::vec![made(&x.shape, x.is_int(), (0..n).map(|i| f(x.get(i))))?]));
    }
    if args.len() == 2
        && let (x, y) = (arg(0)?, arg(1)?)
        && let Some(f) = pair(op, x.is_int() && y.is_int())
    {
        let shape = broadcast(&x.shape, &y.shape)?;
        budget.pay(&shape)?;
        let (x, y) = (x.expanded(&shape), y.expanded(&shape));
        let compares = matches!(op, "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "And" | "Or");
        if op == "Mod" {
            ensure!(a.int("fmod", 0)? == 0, Unsupported, "the remainder as C has it, expected that of whole numbers");
        }
        // The base of a power says the type.
        let whole = compares || (x.is_int() && (op == "Pow" || y.is_int()));
        let zero = whole && matches!(op, "Div" | "Mod") && (0..y.len()).any(|i| y.get(i) == 0.0);
        ensure!(!zero, InvalidArgument, "a whole number is divided by 0");
        return Ok(Some(alloc::vec![made(&shape, whole, (0..x.len()).map(|i| f(x.get(i), y.get(i))))?]));
    }
    let one = match op {
        "Identity" | "Dropout" => {
            a.ignore(&["seed", "ratio"]);
            arg(0)?.clone()
        }
        "Shape" => {
            let shape = &arg(0)?.shape;
            shape_of(shape, a)?
        }
        "Size" => Tensor::ints(&[], alloc::vec![count(&arg(0)?.shape)? as i64]),
        "Cast" | "CastLike" => {
            let to = if op == "CastLike" { i64::from(if arg(1)?.is_int() { 7 } else { 1 }) } else { a.need_int("to")? };
            a.ignore(&["saturate", "round_mode"]);
            cast(arg(0)?, to, budget)?
        }
        "Reshape" => {
            let x = arg(0)?;
            x.with_shape(&reshaped(&x.shape, arg(1)?.whole("the dimensions")?, a.int("allowzero", 0)? != 0)?)
        }
        "Flatten" => {
            let (x, n) = (arg(0)?, a.int("axis", 1)?);
            x.with_shape(&flattened(&x.shape, n)?)
        }
        "Unsqueeze" => {
            let x = arg(0)?;
            x.with_shape(&unsqueezed(&x.shape, &a.ints_or("axes", given(1))?.unwrap_or_default())?)
        }
        "Squeeze" => {
            let x = arg(0)?;
            x.with_shape(&squeezed(&x.shape, a.ints_or("axes", given(1))?.as_deref())?)
        }
        "Transpose" => {
            let x = arg(0)?;
            budget.pay(&x.shape)?;
            x.transposed(&order(a, x.shape.len())?)
        }
        "Expand" => {
            let x = arg(0)?;
            let shape = broadcast(&x.shape, &arg(1)?.sizes("the dimensions")?)?;
            budget.pay(&shape)?;
            x.expanded(&shape)
        }
        "ConstantOfShape" => {
            let shape = arg(0)?.sizes("the dimensions")?;
            let n = budget.pay(&shape)?;
            match a.tensor("value")? {
                Some(v) => made(&shape, v.is_int(), core::iter::repeat_n(v.get(0), n))?,
                None => Tensor::floats(&shape, alloc::vec![0.0; n]),
            }
        }
        "Range" => {
            let (from, to, step) = (arg(0)?, arg(1)?, arg(2)?);
            let [x, y, by] = [from, to, step].map(|t| t.single().unwrap_or(f64::NAN));
            let n = libm::ceil((y - x) / by).max(0.0);
            ensure!((0.0..1e9).contains(&n), InvalidArgument, "a range from {x} to {y} in steps of {by}");
            let n = budget.pay(&[n as usize])?;
            made(&[n], from.is_int() && step.is_int(), (0..n).map(|i| x + by * i as f64))?
        }
        "Where" => {
            let shape = broadcast(&broadcast(&arg(0)?.shape, &arg(1)?.shape)?, &arg(2)?.shape)?;
            let n = budget.pay(&shape)?;
            let [c, x, y] = [arg(0)?.expanded(&shape), arg(1)?.expanded(&shape), arg(2)?.expanded(&shape)];
            made(&shape, x.is_int() && y.is_int(), (0..n).map(|i| if c.get(i) != 0.0 { x.get(i) } else { y.get(i) }))?
        }
        "Concat" => {
            let first = arg(0)?;
            let along = axis(a.need_int("axis")?, first.shape.len())?;
            let list: Vec<&Tensor> = (0..args.len()).map(arg).collect::<Result<_>>()?;
            concat(&list, along, budget)?
        }
        "Gather" => {
            let (x, index) = (arg(0)?, arg(1)?);
            let along = axis(a.int("axis", 0)?, x.shape.len())?;
            gather(x, index, along, budget)?
        }
        "Slice" => {
            let mut x = arg(0)?.clone();
            for (along, (start, len, step)) in slices(&x.shape, a, &[given(1), given(2), given(3), given(4)])? {
                x = slice(&x, along, start, len, step, budget)?;
            }
            x
        }
        "Split" => {
            let x = arg(0)?;
            let along = axis(a.int("axis", 0)?, x.shape.len())?;
            a.ignore(&["num_outputs"]);
            let sizes = a.ints_or("split", given(1))?.map(|v| Tensor::ints(&[v.len()], v));
            let list = parts(x.shape[along], sizes.as_ref(), outputs)?;
            let list = list.into_iter().map(|(start, len)| slice(x, along, start, len, 1, budget));
            return Ok(Some(list.collect::<Result<_>>()?));
        }
        "Tile" => {
            let x = arg(0)?;
            let times = arg(1)?.sizes("the repeats")?;
            ensure!(times.len() == x.shape.len(), Shape, "{times:?} repeats of {:?}", x.shape);
            let mut x = x.clone();
            for (along, &n) in times.iter().enumerate().filter(|(_, n)| **n != 1) {
                ensure!((1..=1 << 20).contains(&n), Unsupported, "a value is repeated {n} times");
                let list: Vec<&Tensor> = core::iter::repeat_n(&x, n).collect();
                x = concat(&list, along, budget)?;
            }
            x
        }
        "Clip" if args.len() == 3 && !arg(0)?.is_int() => {
            let x = arg(0)?;
            let [low, high] = [given(1), given(2)].map(|t| t.and_then(Tensor::single));
            let n = budget.pay(&x.shape)?;
            let above = |v: f64| low.map_or(v, |l| v.max(l));
            let bound = |v: f64| high.map_or(above(v), |h| above(v).min(h));
            made(&x.shape, false, (0..n).map(|i| bound(x.get(i))))?
        }
        "ReduceL2" | "ReduceSumSquare" | "ReduceProd" | "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" => {
            reduce(op, a, arg(0)?, given(1), budget)?
        }
        _ => return Ok(None),
    };
    Ok(Some(alloc::vec![one]))
}

/// What Shape gives.
pub(super) fn shape_of(shape: &[usize], a: &mut Attributes<'_>) -> Result<Tensor> {
    let n = shape.len();
    let (start, len, _) = sliced(n, a.int("start", 0)?, a.int("end", n as i64)?, 1)?;
    let part: Vec<i64> = shape.iter().skip(start).take(len).map(|&d| d as i64).collect();
    Ok(Tensor::ints(&[part.len()], part))
}

pub(super) fn flattened(shape: &[usize], axis: i64) -> Result<Vec<usize>> {
    let n = if axis < 0 { axis + shape.len() as i64 } else { axis };
    let n = usize::try_from(n).ok().filter(|&n| n <= shape.len());
    let n = n.ok_or_else(|| err!(InvalidArgument, "axis {axis} of {} dimensions", shape.len()))?;
    Ok(alloc::vec![count(&shape[..n])?, count(&shape[n..])?])
}

/// The order of axes that Transpose asks for.
pub(super) fn order(a: &mut Attributes<'_>, rank: usize) -> Result<Vec<usize>> {
    let order = match a.ints("perm")? {
        Some(perm) => axes(&perm, rank)?,
        None => (0..rank).rev().collect(),
    };
    ensure!(order.len() == rank, InvalidArgument, "{} axes of {rank} are in another order", order.len());
    Ok(order)
}

fn cast(x: &Tensor, to: i64, budget: &mut Budget) -> Result<Tensor> {
    let n = budget.pay(&x.shape)?;
    let values = (0..n).map(|i| x.get(i));
    let float = is_float(to).ok_or_else(|| err!(Unsupported, "a cast to the type {to}"))?;
    Ok(match to {
        10 => made(&x.shape, false, values.map(|v| half::f16::from_f64(v).to_f64()))?,
        16 => made(&x.shape, false, values.map(|v| half::bf16::from_f64(v).to_f64()))?,
        9 => made(&x.shape, true, values.map(|v| f64::from(u8::from(v != 0.0))))?,
        _ if float && !x.is_int() => x.clone(),
        _ if float => made(&x.shape, false, values)?.named(x.name.clone()),
        _ if x.is_int() => x.clone(),
        _ => made(&x.shape, true, values.map(libm::trunc))?,
    })
}

fn concat(list: &[&Tensor], along: usize, budget: &mut Budget) -> Result<Tensor> {
    let Some(first) = list.first() else { return Err(err!(InvalidArgument, "nothing is put together")) };
    let mut shape = first.shape.clone();
    shape[along] = 0;
    for t in list {
        let fits = t.shape.len() == shape.len() && (0..shape.len()).all(|i| i == along || t.shape[i] == first.shape[i]);
        ensure!(fits, Shape, "values of {:?} and {:?} put together along axis {along}", first.shape, t.shape);
        shape[along] = shape[along].saturating_add(t.shape[along]);
    }
    budget.pay(&shape)?;
    let outer: usize = shape[..along].iter().product();
    let runs = || (0..outer).flat_map(|o| list.iter().map(move |t| (o, *t)));
    let run = |t: &Tensor| t.shape[along..].iter().product::<usize>();
    if list.iter().all(|t| t.is_int()) {
        let mut values = Vec::new();
        for (o, t) in runs() {
            values.extend(t.whole("a part")?.iter().skip(o * run(t)).take(run(t)));
        }
        return Ok(Tensor::ints(&shape, values));
    }
    let each = |(o, t)| (o * run(t)..(o + 1) * run(t)).map(move |i| Tensor::get(t, i) as f32);
    Ok(Tensor::floats(&shape, runs().flat_map(each).collect()))
}

fn gather(x: &Tensor, index: &Tensor, along: usize, budget: &mut Budget) -> Result<Tensor> {
    let n = x.shape[along];
    let mut list = Vec::new();
    for &i in index.whole("the places that are gathered")? {
        let at = if i < 0 { i.saturating_add(n as i64) } else { i };
        let at = usize::try_from(at).ok().filter(|&at| at < n);
        list.push(at.ok_or_else(|| err!(InvalidArgument, "entry {i} of {n} is gathered"))?);
    }
    let shape = [&x.shape[..along], &index.shape, &x.shape[along + 1..]].concat();
    budget.pay(&shape)?;
    let outer: usize = x.shape[..along].iter().product();
    let inner: usize = x.shape[along + 1..].iter().product();
    let mut at = Vec::new();
    for o in 0..outer {
        for &i in &list {
            at.extend((0..inner).map(|k| (o * n + i) * inner + k));
        }
    }
    Ok(x.pick(&shape, at.into_iter()))
}

/// Where a slice of an axis begins, how many entries it has and how far apart they are.
pub(super) type Cut = (usize, usize, i64);

/// The axes of a slice, each with its cut.
pub(super) fn slices(
    shape: &[usize],
    a: &mut Attributes<'_>,
    args: &[Option<&Tensor>; 4],
) -> Result<Vec<(usize, Cut)>> {
    let needed = |v: Option<Vec<i64>>| v.ok_or_else(|| err!(InvalidArgument, "a slice without its ends"));
    let starts = needed(a.ints_or("starts", args[0])?)?;
    let ends = needed(a.ints_or("ends", args[1])?)?;
    let all: Vec<i64> = (0..starts.len() as i64).collect();
    let along = axes(&a.ints_or("axes", args[2])?.unwrap_or(all), shape.len())?;
    let steps = a.ints_or("steps", args[3])?.unwrap_or_else(|| alloc::vec![1; starts.len()]);
    let n = starts.len();
    let fits = ends.len() == n && along.len() == n && steps.len() == n;
    ensure!(fits, InvalidArgument, "a slice of {n} starts, {} ends and {} axes", ends.len(), along.len());
    let mut list = Vec::new();
    for (i, &axis) in along.iter().enumerate() {
        list.push((axis, sliced(shape[axis], starts[i], ends[i], steps[i])?));
    }
    Ok(list)
}

fn slice(x: &Tensor, along: usize, start: usize, len: usize, step: i64, budget: &mut Budget) -> Result<Tensor> {
    let mut shape = x.shape.clone();
    shape[along] = len;
    budget.pay(&shape)?;
    let by = strides(&x.shape);
    let index: Vec<usize> = (0..len as i64).map(|i| (start as i64 + i * step).max(0) as usize).collect();
    let mut inner = shape.clone();
    inner[along] = 1;
    let mut at = Vec::new();
    // Row-major: the places of one entry of the axis, then those of the next, put in order again by their strides.
    let to = strides(&shape);
    at.resize(count(&shape)?, 0);
    let from: Vec<usize> = places(&inner, &by).collect();
    let into: Vec<usize> = places(&inner, &to).collect();
    for (i, &e) in index.iter().enumerate() {
        for (f, t) in from.iter().zip(&into) {
            if let Some(slot) = at.get_mut(t + i * to[along]) {
                *slot = f + e * by[along];
            }
        }
    }
    Ok(x.pick(&shape, at.into_iter()))
}

fn reduce(op: &str, a: &mut Attributes<'_>, x: &Tensor, given: Option<&Tensor>, budget: &mut Budget) -> Result<Tensor> {
    let rank = x.shape.len();
    let list = a.ints_or("axes", given)?;
    let (keep, noop) = (a.int("keepdims", 1)? != 0, a.int("noop_with_empty_axes", 0)? != 0);
    let along = match list {
        Some(list) if !list.is_empty() => axes(&list, rank)?,
        _ if noop => return Ok(x.clone()),
        _ => (0..rank).collect(),
    };
    budget.pay(&x.shape)?;
    let kept: Vec<usize> = (0..rank).map(|i| if along.contains(&i) { 1 } else { x.shape[i] }).collect();
    let own = strides(&kept);
    let steps: Vec<usize> = (0..rank).map(|i| if along.contains(&i) { 0 } else { own[i] }).collect();
    let mut sums: Vec<Option<f64>> = alloc::vec![None; count(&kept)?];
    for (i, to) in places(&x.shape, &steps).enumerate() {
        if let Some(sum) = sums.get_mut(to) {
            let squares = matches!(op, "ReduceL2" | "ReduceSumSquare");
            let v = if squares { x.get(i) * x.get(i) } else { x.get(i) };
            *sum = Some(match (*sum, op) {
                (None, _) => v,
                (Some(s), "ReduceProd") => s * v,
                (Some(s), "ReduceMax") => s.max(v),
                (Some(s), "ReduceMin") => s.min(v),
                (Some(s), _) => s + v,
            });
        }
    }
    let n = (x.len() / sums.len().max(1)).max(1) as f64;
    let by = if op == "ReduceMean" { n } else { 1.0 };
    let shape: Vec<usize> = match keep {
        true => kept,
        false => (0..rank).filter(|i| !along.contains(i)).map(|i| x.shape[i]).collect(),
    };
    let root = |s: f64| if op == "ReduceL2" { libm::sqrt(s) } else { s };
    made(&shape, x.is_int(), sums.into_iter().map(|s| root(s.unwrap_or(0.0) / by)))
}
