//! A picture in memory, and the one shape that all drawings here are made of: a line with round ends.

use std::path::Path;

use undiffuse::{Error, ErrorKind, Result};

/// A point of a panel or of the picture: to the right, and down for the picture, up for a panel.
pub type Point = [f32; 2];

/// Red, green, blue in 0..=1.
pub type Color = [f32; 3];

/// White paper.
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Color>,
}

impl Canvas {
    /// An empty one.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![[1.0; 3]; width * height] }
    }

    /// A line from `a` to `b`, in pixels, with its edge blended over one pixel. A point is a line to itself.
    pub fn line(&mut self, a: Point, b: Point, width: f32, color: Color, opacity: f32) {
        let reach = width / 2.0 + 1.0;
        let range = |p: f32, q: f32, end: usize| {
            let (low, high) = (p.min(q) - reach, p.max(q) + reach);
            (low.max(0.0) as usize)..(high.max(0.0) as usize + 1).min(end)
        };
        let along = [b[0] - a[0], b[1] - a[1]];
        let length = along[0] * along[0] + along[1] * along[1];
        for y in range(a[1], b[1], self.height) {
            for x in range(a[0], b[0], self.width) {
                let from = [x as f32 + 0.5 - a[0], y as f32 + 0.5 - a[1]];
                let dot = from[0] * along[0] + from[1] * along[1];
                let part = if length > 0.0 { (dot / length).clamp(0.0, 1.0) } else { 0.0 };
                let off = (from[0] - part * along[0]).hypot(from[1] - part * along[1]);
                let cover = (width / 2.0 + 0.5 - off).clamp(0.0, 1.0) * opacity;
                let pixel = &mut self.pixels[y * self.width + x];
                pixel.iter_mut().zip(color).for_each(|(p, c)| *p += cover * (c - *p));
            }
        }
    }

    /// A filled rectangle with its upper left corner at `at`.
    pub fn fill(&mut self, at: [usize; 2], size: [usize; 2], color: Color) {
        for y in at[1]..(at[1] + size[1]).min(self.height) {
            for x in at[0]..(at[0] + size[0]).min(self.width) {
                self.pixels[y * self.width + x] = color;
            }
        }
    }

    /// Writes it as an 8-bit PNG, grey if no pixel has a colour. Each channel has 16 levels, which makes files of edges
    /// a third as large.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |e: png::EncodingError| Error::new(ErrorKind::Io, format!("{}: {e}", path.display()));
        let grey = self.pixels.iter().all(|p| p[0] == p[1] && p[1] == p[2]);
        let byte = |v: &f32| (v * 15.0).round() as u8 * 17;
        let bytes: Vec<u8> = self.pixels.iter().flat_map(|p| p[..if grey { 1 } else { 3 }].iter().map(byte)).collect();
        let file = std::fs::File::create(path).map_err(|e| Error::from(e).context(path.display()))?;
        let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), self.width as u32, self.height as u32);
        encoder.set_color(if grey { png::ColorType::Grayscale } else { png::ColorType::Rgb });
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::High);
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&bytes).map_err(failed)?;
        writer.finish().map_err(failed)
    }
}

/// A square part of a canvas that shows the plane from -`extent` to `extent`.
pub struct Panel {
    /// The upper left corner.
    pub at: [usize; 2],
    /// Pixels of a side.
    pub side: usize,
    /// Half of what it shows.
    pub extent: f32,
}

impl Panel {
    fn place(&self, p: Point) -> Option<Point> {
        let scale = self.side as f32 / (2.0 * self.extent);
        let inside = p.iter().all(|v| v.abs() <= self.extent);
        let (x, y) = ((p[0] + self.extent) * scale, (self.extent - p[1]) * scale);
        inside.then_some([self.at[0] as f32 + x, self.at[1] as f32 + y])
    }

    /// A frame around it.
    pub fn frame(&self, canvas: &mut Canvas) {
        let (left, top) = (self.at[0] as f32 + 0.5, self.at[1] as f32 + 0.5);
        let (right, bottom) = (left + self.side as f32 - 1.0, top + self.side as f32 - 1.0);
        let corners = [[left, top], [right, top], [right, bottom], [left, bottom]];
        for i in 0..4 {
            canvas.line(corners[i], corners[(i + 1) % 4], 1.0, [0.75; 3], 1.0);
        }
    }

    /// A dot, if it lies inside.
    pub fn dot(&self, canvas: &mut Canvas, p: Point, color: Color) {
        if let Some(p) = self.place(p) {
            canvas.line(p, p, 2.6, color, 0.55);
        }
    }

    /// An arrow from `p` along `by`, in the panel's units; its head has a third of its length.
    pub fn arrow(&self, canvas: &mut Canvas, p: Point, by: Point, color: Color) {
        let (Some(a), Some(b)) = (self.place(p), self.place([p[0] + by[0], p[1] + by[1]])) else { return };
        let back = [(a[0] - b[0]) / 3.0, (a[1] - b[1]) / 3.0];
        canvas.line(a, b, 1.1, color, 1.0);
        for side in [0.5, -0.5] {
            canvas.line(b, [b[0] + back[0] - side * back[1], b[1] + back[1] + side * back[0]], 1.1, color, 1.0);
        }
    }
}
