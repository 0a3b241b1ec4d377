// Convolution as an implicit matrix product: out[row, column] = sum over taps and input channels.
//
// A workgroup of TX x TY invocations makes a tile of ROWS TY rows and QUADS TX quads of columns; an invocation has ROWS rows on end and
// the quads x and, with two, x + TX. The workgroup goes through the rows of the weights 16 at a time: these are 16 channels of one
// source at one tap. Both operands pass through workgroup memory as T; the input is normalised, activated, upsampled and padded on its
// way there. The order of summation does not depend on the tile. Where T is f16 the 16 products are added in f16, their sums in f32.

@group(0) @binding(2) var<storage, read_write> x0: array<A4>;
@group(0) @binding(3) var<storage, read_write> x1: array<B4>;
@group(0) @binding(4) var<storage, read> weights: array<W4>;
@group(0) @binding(6) var<storage, read_write> ab: array<vec4<f32>>;

override TX: u32 = 16;
override TY: u32 = 16;
// Rows that an invocation has: 4 or 8.
override ROWS: u32 = 4;
// Quads of a row that an invocation has: 1 or, with 8 rows, 2.
override QUADS: u32 = 1;
// Whether T is f16.
override HALF: bool = false;
// Whether a second source is joined to the first along channels.
override JOINED: bool = false;
// Whether a number of channels is not a multiple of 4, so that a quad's end belongs to something else.
override RAGGED: bool = false;
override AFFINE: bool = false;
override BEFORE: u32 = 0;
// How often each row and column of the source is repeated; if SPREAD, zeros stand instead of repetitions.
override STRETCH: i32 = 1;
override SPREAD: bool = false;
// Whether `out` is f32 and takes partial sums for conv_reduce.wgsl.
override SPLIT: bool = false;

// Rows are a quad longer than they need be, so that rows of a subgroup lie in different banks.
const LINE = 5u;
var<workgroup> tile_x: array<T4, TY * ROWS * LINE>;
var<workgroup> tile_w: array<T4, TX * QUADS * 16u>;
// For each row: its sample (negative past the end) and the place of the window's first tap.
var<workgroup> places: array<vec3<i32>, TY * ROWS>;

// Four rows of the weights in a quad of columns.
struct Quads {
    x: T4,
    y: T4,
    z: T4,
    w: T4,
}

fn quads(at: u32) -> Quads {
    let line = TX * QUADS;
    return Quads(tile_w[at], tile_w[at + line], tile_w[at + 2u * line], tile_w[at + 3u * line]);
}

// `sum` and four products for each lane.
fn add(a: T4, b: Quads, sum: T4) -> T4 {
    return fma(T4(a.w), b.w, fma(T4(a.z), b.z, fma(T4(a.y), b.y, fma(T4(a.x), b.x, sum))));
}

// What a block of products begins with, and the sum after it.
fn begin(sum: vec4<f32>) -> T4 {
    if HALF {
        return T4(0.0);
    }
    return T4(sum);
}

fn end(sum: vec4<f32>, block: T4) -> vec4<f32> {
    if HALF {
        return sum + vec4<f32>(block);
    }
    return vec4<f32>(block);
}

// A quad of the input at a tap. `second` chooses the source, `quad` its channels.
fn input(place: vec3<i32>, ky: i32, kx: i32, second: bool, quad: u32) -> vec4<f32> {
    let zero = vec4<f32>(0.0);
    let count = select(p.x0_channels, p.x1_channels, second);
    var y = place.y + ky;
    var x = place.z + kx;
    if place.x < 0 || quad * 4u >= count || y < 0 || x < 0 || y >= p.in_height || x >= p.in_width {
        return zero;
    }
    if STRETCH > 1 {
        if SPREAD && (y % STRETCH != 0 || x % STRETCH != 0) {
            return zero;
        }
        y /= STRETCH;
        x /= STRETCH;
    }
    let sample = u32(place.x);
    let at = sample * p.source_positions + u32(y) * p.source_width + u32(x);
    var v: vec4<f32>;
    if JOINED && second {
        v = vec4<f32>(x1[at * p.x1_stride + p.x1_start + quad]);
    } else {
        v = vec4<f32>(x0[at * p.x0_stride + p.x0_start + quad]);
    }
    if AFFINE {
        let c = sample * p.ab_stride + p.ab_start + quad + select(0u, p.x0_channels / 4u, second);
        v = fma(v, ab[c], ab[c + p.channels]);
    }
    v = activate(BEFORE, p.before_slope, v);
    if RAGGED {
        let lanes = quad * 4u + vec4<u32>(0u, 1u, 2u, 3u);
        v = select(zero, v, lanes < vec4<u32>(count));
    }
    return v;
}

@compute @workgroup_size(TX, TY)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let me = local.y * TX + local.x;
    let tile_columns = TX * QUADS;
    let tile_rows = TY * ROWS;
    let tiles = (p.columns + tile_columns - 1u) / tile_columns;
    let id = group.x + group.y * grid.x;
    let first_column = id % tiles * tile_columns;
    let split = id / tiles % p.splits;
    let first_row = id / tiles / p.splits * tile_rows;
    let rows = call.batch * p.positions;
    if first_row >= rows {
        return;
    }
    for (var i = me; i < tile_rows; i += TX * TY) {
        let row = first_row + i;
        let at = row % p.positions;
        let y = i32(at / p.width) * p.stride - p.pad_top;
        let x = i32(at % p.width) * p.stride - p.pad_left;
        places[i] = vec3<i32>(select(-1, i32(row / p.positions), row < rows), y, x);
    }
    workgroupBarrier();

    // The blocks of 16 channels of each source at a tap, and where this split begins.
    let blocks0 = (p.x0_channels + 15u) / 16u;
    let blocks = blocks0 + (p.x1_channels + 15u) / 16u;
    let first_step = split * p.split_steps;
    let last_step = min(first_step + p.split_steps, p.steps);
    var block = first_step % blocks;
    var kx = first_step / blocks % p.kernel_width;
    var ky = first_step / blocks / p.kernel_width;

    // Sums of rows 0 to 7 in the first quad, then in the second.
    var s0 = vec4<f32>(0.0);
    var s1 = vec4<f32>(0.0);
    var s2 = vec4<f32>(0.0);
    var s3 = vec4<f32>(0.0);
    var s4 = vec4<f32>(0.0);
    var s5 = vec4<f32>(0.0);
    var s6 = vec4<f32>(0.0);
    var s7 = vec4<f32>(0.0);
    var s8 = vec4<f32>(0.0);
    var s9 = vec4<f32>(0.0);
    var s10 = vec4<f32>(0.0);
    var s11 = vec4<f32>(0.0);
    var s12 = vec4<f32>(0.0);
    var s13 = vec4<f32>(0.0);
    var s14 = vec4<f32>(0.0);
    var s15 = vec4<f32>(0.0);
    for (var step = first_step; step < last_step; step++) {
        let second = block >= blocks0;
        let first_quad = select(block, block - blocks0, second) * 4u;
        for (var i = me; i < tile_rows * 4u; i += TX * TY) {
            tile_x[i / 4u * LINE + i % 4u] = T4(input(places[i / 4u], i32(ky), i32(kx), second, first_quad + i % 4u));
        }
        for (var i = me; i < tile_columns * 16u; i += TX * TY) {
            let column = first_column + i % tile_columns;
            var w = T4(0.0);
            if column < p.columns {
                w = T4(weights[(step * 16u + i / tile_columns) * p.columns + column]);
            }
            tile_w[i] = w;
        }
        workgroupBarrier();
        var h0 = begin(s0);
        var h1 = begin(s1);
        var h2 = begin(s2);
        var h3 = begin(s3);
        var h4 = begin(s4);
        var h5 = begin(s5);
        var h6 = begin(s6);
        var h7 = begin(s7);
        var h8 = begin(s8);
        var h9 = begin(s9);
        var h10 = begin(s10);
        var h11 = begin(s11);
        var h12 = begin(s12);
        var h13 = begin(s13);
        var h14 = begin(s14);
        var h15 = begin(s15);
        for (var k = 0u; k < 4u; k++) {
            let row = local.y * ROWS * LINE + k;
            let at = k * 4u * tile_columns + local.x;
            let b = quads(at);
            let a0 = tile_x[row];
            let a1 = tile_x[row + LINE];
            let a2 = tile_x[row + 2u * LINE];
            let a3 = tile_x[row + 3u * LINE];
            h0 = add(a0, b, h0);
            h1 = add(a1, b, h1);
            h2 = add(a2, b, h2);
            h3 = add(a3, b, h3);
            if ROWS > 4u {
                let a4 = tile_x[row + 4u * LINE];
                let a5 = tile_x[row + 5u * LINE];
                let a6 = tile_x[row + 6u * LINE];
                let a7 = tile_x[row + 7u * LINE];
                h4 = add(a4, b, h4);
                h5 = add(a5, b, h5);
                h6 = add(a6, b, h6);
                h7 = add(a7, b, h7);
                if QUADS > 1u {
                    let c = quads(at + TX);
                    h8 = add(a0, c, h8);
                    h9 = add(a1, c, h9);
                    h10 = add(a2, c, h10);
                    h11 = add(a3, c, h11);
                    h12 = add(a4, c, h12);
                    h13 = add(a5, c, h13);
                    h14 = add(a6, c, h14);
                    h15 = add(a7, c, h15);
                }
            }
        }
        s0 = end(s0, h0);
        s1 = end(s1, h1);
        s2 = end(s2, h2);
        s3 = end(s3, h3);
        s4 = end(s4, h4);
        s5 = end(s5, h5);
        s6 = end(s6, h6);
        s7 = end(s7, h7);
        s8 = end(s8, h8);
        s9 = end(s9, h9);
        s10 = end(s10, h10);
        s11 = end(s11, h11);
        s12 = end(s12, h12);
        s13 = end(s13, h13);
        s14 = end(s14, h14);
        s15 = end(s15, h15);
        workgroupBarrier();
        block++;
        if block == blocks {
            block = 0u;
            kx++;
            if kx == p.kernel_width {
                kx = 0u;
                ky++;
            }
        }
    }

    let column = first_column + local.x;
    let row = first_row + local.y * ROWS;
    emit(split, row, rows, column, s0);
    emit(split, row + 1u, rows, column, s1);
    emit(split, row + 2u, rows, column, s2);
    emit(split, row + 3u, rows, column, s3);
    if ROWS > 4u {
        emit(split, row + 4u, rows, column, s4);
        emit(split, row + 5u, rows, column, s5);
        emit(split, row + 6u, rows, column, s6);
        emit(split, row + 7u, rows, column, s7);
    }
    if QUADS > 1u {
        emit(split, row, rows, column + TX, s8);
        emit(split, row + 1u, rows, column + TX, s9);
        emit(split, row + 2u, rows, column + TX, s10);
        emit(split, row + 3u, rows, column + TX, s11);
        emit(split, row + 4u, rows, column + TX, s12);
        emit(split, row + 5u, rows, column + TX, s13);
        emit(split, row + 6u, rows, column + TX, s14);
        emit(split, row + 7u, rows, column + TX, s15);
    }
}

fn emit(split: u32, row: u32, rows: u32, column: u32, sum: vec4<f32>) {
    if row >= rows || column >= p.columns {
        return;
    }
    if SPLIT {
        out[(split * rows + row) * p.columns + column] = Y4(sum);
    } else {
        finish(row, column, sum);
    }
}
