// What attention.wgsl and attention_grad.wgsl share. A workgroup of 16 x 16 invocations works on 32 x 32 scores: an invocation has those
// of rows 2 y, 2 y + 1 with columns x, x + 16 (.xy of the first row), and quads x, x + 16, ... of both rows' results.

// Quads of the result's row that an invocation holds: 1, 2 or 4.
override BLOCKS: u32 = 1;

// 16 channels of 32 rows and of 32 columns, each with a quad to spare.
const LINE = 5u;
var<workgroup> tile_r: array<vec4<f32>, 160>;
var<workgroup> tile_c: array<vec4<f32>, 160>;
// 64 channels of 16 vectors that are added up.
var<workgroup> tile_v: array<vec4<f32>, 256>;
// What 32 rows have for 32 columns: scores or weights.
const ROW = 33u;
var<workgroup> weights: array<f32, 1056>;

// What a lane beyond the last key has; exp of it less anything is 0.
const LOWEST = -3.0e38;

struct Pair {
    a: vec4<f32>,
    b: vec4<f32>,
}

// What 16 channels of the two tiles add to the products of the two rows with the two columns.
fn tile_products(local: vec2<u32>) -> vec4<f32> {
    let first = local.y * 2u * LINE;
    var s = vec4<f32>(0.0);
    for (var n = 0u; n < 4u; n++) {
        let ra = tile_r[first + n];
        let rb = tile_r[first + LINE + n];
        let ca = tile_c[local.x * LINE + n];
        let cb = tile_c[(local.x + 16u) * LINE + n];
        s += vec4<f32>(dot(ra, ca), dot(ra, cb), dot(rb, ca), dot(rb, cb));
    }
    return s;
}

// Puts this invocation's four numbers where all of the workgroup can read them.
fn share(w: vec4<f32>, local: vec2<u32>) {
    let at = local.y * 2u * ROW + local.x;
    workgroupBarrier();
    weights[at] = w.x;
    weights[at + 16u] = w.y;
    weights[at + ROW] = w.z;
    weights[at + ROW + 16u] = w.w;
    workgroupBarrier();
}

// The greatest of what was shared of each of the two rows, and of what they had.
fn row_tops(greatest: vec2<f32>, local: vec2<u32>) -> vec2<f32> {
    let at = local.y * 2u * ROW;
    var top = greatest;
    for (var i = 0u; i < 32u; i++) {
        top = max(top, vec2<f32>(weights[at + i], weights[at + ROW + i]));
    }
    return top;
}

// The sums of the two rows of what was shared.
fn row_sums(local: vec2<u32>) -> vec2<f32> {
    let at = local.y * 2u * ROW;
    var sum = vec2<f32>(0.0);
    for (var i = 0u; i < 32u; i++) {
        sum += vec2<f32>(weights[at + i], weights[at + ROW + i]);
    }
    return sum;
}

// What the 16 vectors of the tile, those of columns `column` on, add to a quad of the two rows' results.
fn tile_sums(column: u32, local: vec2<u32>) -> Pair {
    var sum = Pair(vec4<f32>(0.0), vec4<f32>(0.0));
    let at = local.y * 2u * ROW + column;
    for (var i = 0u; i < 16u; i++) {
        let value = tile_v[i * 16u + local.x];
        sum.a = fma(vec4<f32>(weights[at + i]), value, sum.a);
        sum.b = fma(vec4<f32>(weights[at + ROW + i]), value, sum.b);
    }
    return sum;
}
