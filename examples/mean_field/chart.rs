//! Curves and points over two axes with numbers at them.

use crate::canvas::{Canvas, Color, Point};

/// A part of a canvas with axes of its own.
pub struct Chart {
    /// The left, upper corner of what is framed, in pixels.
    pub at: Point,
    /// Its size.
    pub size: Point,
    /// From the left to the right.
    pub x: [f64; 2],
    /// From below to above.
    pub y: [f64; 2],
    /// Whether y is logarithmic.
    pub log: bool,
}

impl Chart {
    fn place(&self, x: f64, y: f64) -> Point {
        let part = |v: f64, [low, high]: [f64; 2]| (v - low) / (high - low);
        let up = if self.log { part(y.ln(), self.y.map(f64::ln)) } else { part(y, self.y) };
        let right = part(x, self.x) as f32;
        [self.at[0] + right * self.size[0], self.at[1] + (1.0 - up as f32) * self.size[1]]
    }

    fn holds(&self, x: f64, y: f64) -> bool {
        let within = |v: f64, [low, high]: [f64; 2]| v >= low - 1e-9 && v <= high + 1e-9;
        within(x, self.x) && within(y, self.y)
    }

    /// The frame, and numbers at these values.
    pub fn axes(&self, canvas: &mut Canvas, x: &[f64], y: &[f64]) {
        const GREY: Color = [0.45; 3];
        let (left, top) = (self.at[0], self.at[1]);
        let (right, bottom) = (left + self.size[0], top + self.size[1]);
        let corners = [[left, top], [right, top], [right, bottom], [left, bottom]];
        (0..4).for_each(|i| canvas.line(corners[i], corners[(i + 1) % 4], 1.0, GREY, 1.0));
        for &v in x {
            let [px, _] = self.place(v, self.y[0]);
            canvas.line([px, bottom], [px, bottom + 4.0], 1.0, GREY, 1.0);
            let text = v.to_string();
            write(canvas, [px - width(&text) / 2.0, bottom + 8.0], &text);
        }
        for &v in y {
            let [_, py] = self.place(self.x[0], v);
            canvas.line([left - 4.0, py], [left, py], 1.0, GREY, 1.0);
            let text = v.to_string();
            write(canvas, [left - 8.0 - width(&text), py - 4.5], &text);
        }
    }

    /// A curve, where it lies inside.
    pub fn curve(&self, canvas: &mut Canvas, points: &[(f64, f64)], color: Color) {
        for pair in points.windows(2).filter(|p| p.iter().all(|&(x, y)| self.holds(x, y))) {
            canvas.line(self.place(pair[0].0, pair[0].1), self.place(pair[1].0, pair[1].1), 1.8, color, 1.0);
        }
    }

    /// Points with a light rim.
    pub fn dots(&self, canvas: &mut Canvas, points: &[(f64, f64)], color: Color) {
        for p in points.iter().filter(|p| self.holds(p.0, p.1)).map(|p| self.place(p.0, p.1)) {
            canvas.line(p, p, 8.0, [1.0; 3], 1.0);
            canvas.line(p, p, 6.0, color, 1.0);
        }
    }

    /// Cells of a table, its rows from below, as colours.
    pub fn cells(&self, canvas: &mut Canvas, columns: usize, rows: usize, color: impl Fn(f64, f64) -> Color) {
        let edge = |i: usize, n: usize, from: f32, size: f32| (from + size * i as f32 / n as f32).round() as usize;
        let middle = |i: usize, n: usize, [low, high]: [f64; 2]| low + (high - low) * (i as f64 + 0.5) / n as f64;
        for row in 0..rows {
            for column in 0..columns {
                let (left, right) = (column, column + 1);
                let [left, right] = [left, right].map(|i| edge(i, columns, self.at[0], self.size[0]));
                let [top, bottom] = [row, row + 1].map(|i| edge(i, rows, self.at[1], self.size[1]));
                let color = color(middle(column, columns, self.x), middle(rows - 1 - row, rows, self.y));
                canvas.fill([left, top], [right - left, bottom - top], color);
            }
        }
    }
}

/// Strokes of a digit, a point and a minus in a box of 5 by 9, corner after corner.
fn strokes(character: char) -> &'static [&'static [[f32; 2]]] {
    match character {
        '0' => &[&[[0.0, 0.0], [5.0, 0.0], [5.0, 9.0], [0.0, 9.0], [0.0, 0.0]]],
        '1' => &[&[[1.0, 2.0], [3.0, 0.0], [3.0, 9.0]]],
        '2' => &[&[[0.0, 0.0], [5.0, 0.0], [5.0, 4.5], [0.0, 4.5], [0.0, 9.0], [5.0, 9.0]]],
        '3' => &[&[[0.0, 0.0], [5.0, 0.0], [5.0, 9.0], [0.0, 9.0]], &[[1.0, 4.5], [5.0, 4.5]]],
        '4' => &[&[[0.0, 0.0], [0.0, 4.5], [5.0, 4.5]], &[[5.0, 0.0], [5.0, 9.0]]],
        '5' => &[&[[5.0, 0.0], [0.0, 0.0], [0.0, 4.5], [5.0, 4.5], [5.0, 9.0], [0.0, 9.0]]],
        '6' => &[&[[5.0, 0.0], [0.0, 0.0], [0.0, 9.0], [5.0, 9.0], [5.0, 4.5], [0.0, 4.5]]],
        '7' => &[&[[0.0, 0.0], [5.0, 0.0], [2.0, 9.0]]],
        '8' => &[&[[0.0, 0.0], [5.0, 0.0], [5.0, 9.0], [0.0, 9.0], [0.0, 0.0]], &[[0.0, 4.5], [5.0, 4.5]]],
        '9' => &[&[[0.0, 9.0], [5.0, 9.0], [5.0, 0.0], [0.0, 0.0], [0.0, 4.5], [5.0, 4.5]]],
        '.' => &[&[[0.0, 9.0], [0.0, 9.0]]],
        '-' => &[&[[0.0, 4.5], [4.0, 4.5]]],
        _ => &[],
    }
}

fn step(character: char) -> f32 {
    if character == '.' { 3.5 } else { 8.0 }
}

/// Pixels of a number's width.
fn width(text: &str) -> f32 {
    text.chars().map(step).sum::<f32>() - 3.0
}

fn write(canvas: &mut Canvas, at: Point, text: &str) {
    let mut left = at[0].round() + 0.5;
    for character in text.chars() {
        for stroke in strokes(character) {
            for pair in stroke.windows(2) {
                let [a, b] = [pair[0], pair[1]].map(|p| [left + p[0], at[1].round() + 0.5 + p[1]]);
                canvas.line(a, b, 1.2, [0.2; 3], 1.0);
            }
        }
        left += step(character);
    }
}
