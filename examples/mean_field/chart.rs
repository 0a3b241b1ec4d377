//! A panel with axes and numbers.

use crate::canvas::{Canvas, Color};

const GREY: Color = [0.55; 3];

/// Characters of 3 x 5 cells, from the upper left corner row by row, a bit each.
const GLYPHS: [(char, u16); 30] = [
    ('0', 0b111_101_101_101_111),
    ('1', 0b010_110_010_010_111),
    ('2', 0b111_001_111_100_111),
    ('3', 0b111_001_111_001_111),
    ('4', 0b101_101_111_001_001),
    ('5', 0b111_100_111_001_111),
    ('6', 0b111_100_111_101_111),
    ('7', 0b111_001_001_001_001),
    ('8', 0b111_101_111_101_111),
    ('9', 0b111_101_111_001_111),
    ('.', 0b000_000_000_000_010),
    ('-', 0b000_000_111_000_000),
    ('*', 0b101_010_111_010_101),
    ('a', 0b111_101_111_101_101),
    ('b', 0b100_100_111_101_111),
    ('c', 0b000_000_111_100_111),
    ('d', 0b001_001_111_101_111),
    ('e', 0b111_100_111_100_111),
    ('f', 0b111_100_111_100_100),
    ('g', 0b111_100_101_101_111),
    ('i', 0b111_010_010_010_111),
    ('l', 0b100_100_100_100_111),
    ('m', 0b101_111_111_101_101),
    ('o', 0b111_101_101_101_111),
    ('q', 0b000_111_101_111_001),
    ('r', 0b111_101_110_101_101),
    ('s', 0b111_100_111_001_111),
    ('w', 0b101_101_111_111_101),
    ('x', 0b101_101_010_101_101),
    ('y', 0b101_101_010_010_010),
];

/// `text` with its upper left corner at `at`; what has no glyph is a gap.
fn write(canvas: &mut Canvas, at: [f32; 2], text: &str) {
    const CELL: usize = 2;
    for (i, c) in text.chars().enumerate() {
        let Some((_, glyph)) = GLYPHS.iter().find(|(g, _)| *g == c) else { continue };
        for bit in (0..15).filter(|bit| glyph >> (14 - bit) & 1 == 1) {
            let cell = [at[0] as usize + (4 * i + bit % 3) * CELL, at[1] as usize + bit / 3 * CELL];
            canvas.fill(cell, [CELL; 2], [0.2; 3]);
        }
    }
}

/// A panel.
pub struct Chart {
    /// The upper left corner.
    pub at: [f32; 2],
    /// Width and height.
    pub size: [f32; 2],
    /// What the horizontal axis shows.
    pub x: [f64; 2],
    /// What the vertical axis shows.
    pub y: [f64; 2],
}

impl Chart {
    /// Where a point lies, also outside.
    pub fn place(&self, p: [f64; 2]) -> [f32; 2] {
        let part = |v: f64, [low, high]: [f64; 2]| ((v - low) / (high - low)) as f32;
        let (x, y) = (part(p[0], self.x), part(p[1], self.y));
        [self.at[0] + x * self.size[0], self.at[1] + (1.0 - y) * self.size[1]]
    }

    /// The frame, with numbers `every` so far, and what the axes are.
    pub fn axes(&self, canvas: &mut Canvas, every: [f64; 2], names: [&str; 2]) {
        let ends = |[low, high]: [f64; 2], every: f64| {
            let first = (low / every).ceil() as i32;
            (first..=((high / every) + 1e-9).floor() as i32).map(move |i| f64::from(i) * every)
        };
        let text = |v: f64, every: f64| if every < 1.0 { format!("{v:.1}") } else { format!("{v:.0}") };
        for v in ends(self.x, every[0]) {
            let p = self.place([v, self.y[0]]);
            canvas.line(p, [p[0], p[1] + 4.0], 1.0, GREY, 1.0);
            let label = text(v, every[0]);
            write(canvas, [p[0] - 4.0 * label.len() as f32 + 1.0, p[1] + 7.0], &label);
        }
        for v in ends(self.y, every[1]) {
            let p = self.place([self.x[0], v]);
            canvas.line(p, [p[0] - 4.0, p[1]], 1.0, GREY, 1.0);
            let label = text(v, every[1]);
            write(canvas, [p[0] - 7.0 - 8.0 * label.len() as f32, p[1] - 5.0], &label);
        }
        let (a, b) = (self.place([self.x[0], self.y[0]]), self.place([self.x[1], self.y[1]]));
        for (p, q) in [
            ([a[0], a[1]], [b[0], a[1]]),
            ([a[0], b[1]], [b[0], b[1]]),
            ([a[0], a[1]], [a[0], b[1]]),
            ([b[0], a[1]], b),
        ] {
            canvas.line(p, q, 1.0, GREY, 1.0);
        }
        write(canvas, [(a[0] + b[0]) / 2.0 - 4.0 * names[0].len() as f32, a[1] + 22.0], names[0]);
        write(canvas, [a[0], b[1] - 15.0], names[1]);
    }

    /// A curve; what lies outside is left out.
    pub fn curve(&self, canvas: &mut Canvas, points: impl IntoIterator<Item = [f64; 2]>, width: f32, color: Color) {
        let points: Vec<_> = points.into_iter().map(|p| self.inside(p).then(|| self.place(p))).collect();
        for pair in points.windows(2) {
            if let [Some(a), Some(b)] = *pair {
                canvas.line(a, b, width, color, 0.9);
            }
        }
    }

    /// A dot with a white rim.
    pub fn dot(&self, canvas: &mut Canvas, p: [f64; 2], color: Color) {
        if self.inside(p) {
            let p = self.place(p);
            canvas.line(p, p, 8.0, [1.0; 3], 1.0);
            canvas.line(p, p, 5.5, color, 1.0);
        }
    }

    fn inside(&self, p: [f64; 2]) -> bool {
        let within = |v: f64, [low, high]: [f64; 2]| v >= low - 1e-9 && v <= high + 1e-9;
        within(p[0], self.x) && within(p[1], self.y)
    }
}
