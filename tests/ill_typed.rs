//! One ill-typed program for each error of the type rule, with the very message; and that no error of the rule has none.

use ir::{Attn, DType, Dim, Ein, Graph, Loop, Op, Type, infer};

/// Inputs of main, one op on them, and what is wrong with it. The op's type is left to chance: the rule speaks before it is compared.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("%0 x: f32[2,3]", "add %0", "add takes 2 operands (a, b), not 1"),
    ("%0 x: f32[2,3]", "softmax %0, %0", "softmax takes 1 operands (x), not 2"),
    ("%0 x: i32[2]", "exp %0", "exp(x: i32[2]): i32[2] is not f32"),
    ("%0 x: f32[2,3], %1 t: f32[2]", "select %0, %0, %0", "select(p: f32[2,3], a: f32[2,3], b: f32[2,3]): the condition must be bool, not f32"),
    ("%0 p: bool[2], %1 x: f32[2], %2 i: i32[2]", "select %0, %1, %2", "select(p: bool[2], a: f32[2], b: i32[2]): element types differ: f32 and i32"),
    (
        "%0 p: bool[2], %1 x: f32[2], %2 y: f32[3]",
        "select %0, %1, %2",
        "select(p: bool[2], a: f32[2], b: f32[3]): axis -1 is 2 on one side and 3 on the other",
    ),
    ("%0 x: f32[2,3], %1 y: f32[4]", "add %0, %1", "add(a: f32[2,3], b: f32[4]): axis -1 is 3 on one side and 4 on the other"),
    ("%0 x: f32[2,3], %1 y: f32[4,3]", "mul %0, %1", "mul(a: f32[2,3], b: f32[4,3]): axis -2 is 2 on one side and 4 on the other"),
    ("%0 x: f32[2], %1 y: i32[2]", "add %0, %1", "add(a: f32[2], b: i32[2]): element types differ: f32 and i32"),
    ("%0 x: bf16[2]", "add %0, %0", "add(a: bf16[2], b: bf16[2]): bf16 has no arithmetic; cast to f32"),
    ("%0 p: bool[2]", "add %0, %0", "add(a: bool[2], b: bool[2]): truth values have no arithmetic"),
    ("%0 x: f32[2]", "and %0, %0", "and(a: f32[2], b: f32[2]): and is of the bits of whole numbers, not of f32"),
    ("%0 p: bool[2]", "shr %0, %0", "shr(a: bool[2], b: bool[2]): shr is of the bits of whole numbers, not of bool"),
    ("%0 i: i32[2]", "div %0, %0", "div(a: i32[2], b: i32[2]): i32[2] is not f32"),
    ("%0 i: i32[2]", "pow %0, %0", "pow(a: i32[2], b: i32[2]): i32[2] is not f32"),
    ("%0 x: f32[2,3]", "iota[-1,2147483649]", "iota[-1,2147483649](): 2147483649 positions are more than an i32 counts"),
    ("%0 x: f32[2,3]", "iota[-1,1099511627777]", "iota[-1,1099511627777](): 1099511627777 positions are more than an i32 counts"),
    ("%0 x: f32[2,3]", "sum[] %0", "sum[](x: f32[2,3]): there is no axis to reduce"),
    ("%0 x: f32[2,3]", "sum[-1,-1] %0", "sum[-1,-1](x: f32[2,3]): axis -1 is reduced twice"),
    ("%0 x: f32[2,3]", "sum[-3] %0", "sum[-3](x: f32[2,3]): f32[2,3] has no axis -3"),
    ("%0 i: i32[2]", "max[-1] %0", "max[-1](x: i32[2]): i32[2] is not f32"),
    ("%0 x: f32[2,3]", "reshape[4] %0", "reshape[4](x: f32[2,3]): 6 elements cannot become [4], which has 4"),
    ("%0 x: f32[2,B]", "reshape[2] %0", "reshape[2](x: f32[2,B]): 2*B elements cannot become [2], which has 2"),
    (
        "%0 x: f32[2,3]",
        "reshape[1099511627776,2] %0",
        "reshape[1099511627776,2](x: f32[2,3]): f32[1099511627776,2] has too many elements (more than 1099511627776)",
    ),
    (
        "%0 x: f32[0]",
        "reshape[0,1099511627776,2] %0",
        "reshape[0,1099511627776,2](x: f32[0]): f32[0,1099511627776,2] has too many elements (more than 1099511627776)",
    ),
    (
        "%0 x: f32[2,3]",
        "reshape[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2,3] %0",
        "reshape[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2,3](x: f32[2,3]): a tensor has at most 16 axes, not 17",
    ),
    (
        "%0 x: f32[A,B,C], %1 y: f32[A,B,C,1]",
        "broadcast[A,B,C,D] %1",
        "broadcast[A,B,C,D](x: f32[A,B,C,1]): f32[A,B,C,D] has more than three named sizes",
    ),
    ("%0 x: f32[2,3]", "transpose[0] %0", "transpose[0](x: f32[2,3]): [0] is not an order of 2 axes"),
    ("%0 x: f32[2,3]", "transpose[1,1] %0", "transpose[1,1](x: f32[2,3]): [1,1] is not an order of 2 axes"),
    ("%0 x: f32[2,3]", "transpose[0,2] %0", "transpose[0,2](x: f32[2,3]): [0,2] is not an order of 2 axes"),
    ("%0 x: f32[2,3]", "broadcast[2,4] %0", "broadcast[2,4](x: f32[2,3]): cannot be repeated to [2,4]"),
    ("%0 x: f32[2,3]", "broadcast[3] %0", "broadcast[3](x: f32[2,3]): cannot be repeated to [3]"),
    ("%0 x: f32[2,3]", "slice[-1,2,1] %0", "slice[-1,2,1](x: f32[2,3]): 2..1 is outside 0..3"),
    ("%0 x: f32[2,3]", "slice[-1,0,4] %0", "slice[-1,0,4](x: f32[2,3]): 0..4 is outside 0..3"),
    ("%0 x: f32[2,3]", "slice[-3,0,1] %0", "slice[-3,0,1](x: f32[2,3]): f32[2,3] has no axis -3"),
    ("%0 x: f32[2,T]", "slice[-1,0,1] %0", "slice[-1,0,1](x: f32[2,T]): dim T must be a number here"),
    ("%0 x: f32[2,T]", "pad[-1,0,1] %0", "pad[-1,0,1](x: f32[2,T]): dim T must be a number here"),
    (
        "%0 x: f32[1024,1048576]",
        "pad[-2,4294967295,4294967295] %0",
        "pad[-2,4294967295,4294967295](x: f32[1024,1048576]): f32[8589935614,1048576] has too many elements (more than 1099511627776)",
    ),
    ("%0 x: f32[2,3]", "concat[-1]", "concat[-1](): there is nothing to put together"),
    ("%0 x: f32[2,3], %1 y: f32[3,3]", "concat[-1] %0, %1", "concat[-1](x…: f32[2,3], x…: f32[3,3]): f32[3,3] does not fit beside f32[2,3]"),
    ("%0 x: f32[2,3], %1 y: i32[2,3]", "concat[-1] %0, %1", "concat[-1](x…: f32[2,3], x…: i32[2,3]): i32[2,3] does not fit beside f32[2,3]"),
    ("%0 x: f32[T], %1 y: f32[S]", "concat[-1] %0, %1", "concat[-1](x…: f32[T], x…: f32[S]): dim S must be a number here"),
    ("%0 x: f32[B*T], %1 y: f32[3]", "concat[-1] %0, %1", "concat[-1](x…: f32[B*T], x…: f32[3]): dim B*T must be a number or a name here"),
    ("%0 x: f32[2,3]", "concat[-3] %0, %0", "concat[-3](x…: f32[2,3], x…: f32[2,3]): f32[2,3] has no axis -3"),
    (
        "%0 a: f32[4,3], %1 w: f32[2,3,5], %2 g: f32[4]",
        "grouped[ecf] %0, %1, %2",
        "grouped[ecf](a: f32[4,3], w: f32[2,3,5], group: f32[4]): the group must be i32, not f32",
    ),
    (
        "%0 a: f32[4,3,1], %1 w: f32[2,3,5], %2 g: i32[4]",
        "grouped[ecf] %0, %1, %2",
        "grouped[ecf](a: f32[4,3,1], w: f32[2,3,5], group: i32[4]): a must have rows and columns, not be f32[4,3,1]",
    ),
    (
        "%0 a: f32[4,3], %1 w: f32[2,3,5], %2 g: i32[4,1]",
        "grouped[ecf] %0, %1, %2",
        "grouped[ecf](a: f32[4,3], w: f32[2,3,5], group: i32[4,1]): the group must be i32[4]",
    ),
    (
        "%0 a: f32[4,3], %1 w: f32[3,5], %2 g: i32[4]",
        "grouped[ecf] %0, %1, %2",
        "grouped[ecf](a: f32[4,3], w: f32[3,5], group: i32[4]): w must be a matrix for each group, not f32[3,5]",
    ),
    (
        "%0 a: f32[4,3], %1 w: f32[2,3,5], %2 g: i32[4]",
        "grouped[efc] %0, %1, %2",
        "grouped[efc](a: f32[4,3], w: f32[2,3,5], group: i32[4]): rows of 3 do not meet matrices of 5",
    ),
    (
        "%0 a: f32[4,3], %1 b: f32[4], %2 g: i32[4]",
        "grouped_sum[2] %0, %1, %2",
        "grouped_sum[2](a: f32[4,3], b: f32[4], group: i32[4]): b must have rows and columns, not be f32[4]",
    ),
    (
        "%0 a: f32[4,3], %1 b: f32[5,2], %2 g: i32[4]",
        "grouped_sum[2] %0, %1, %2",
        "grouped_sum[2](a: f32[4,3], b: f32[5,2], group: i32[4]): b must have 4 rows",
    ),
    ("%0 x: f32[2,3]", "gather %0, %0", "gather(table: f32[2,3], index: f32[2,3]): the index must be i32, not f32"),
    ("%0 x: f32[], %1 i: i32[2]", "gather %0, %1", "gather(table: f32[], index: i32[2]): the table has no axis to index"),
    (
        "%0 x: f32[4,2], %1 i: f32[3], %2 u: f32[3,2]",
        "scatter_add %0, %1, %2",
        "scatter_add(base: f32[4,2], index: f32[3], updates: f32[3,2]): the index must be i32, not f32",
    ),
    (
        "%0 x: f32[4,2], %1 i: i32[3], %2 u: f32[2,2]",
        "scatter_add %0, %1, %2",
        "scatter_add(base: f32[4,2], index: i32[3], updates: f32[2,2]): the updates must be [3,2]",
    ),
    (
        "%0 x: i32[4,2], %1 i: i32[3], %2 u: i32[3,2]",
        "scatter_add %0, %1, %2",
        "scatter_add(base: i32[4,2], index: i32[3], updates: i32[3,2]): i32[4,2] is not f32",
    ),
    (
        "%0 x: f32[], %1 i: i32[3], %2 u: f32[3]",
        "scatter_add %0, %1, %2",
        "scatter_add(base: f32[], index: i32[3], updates: f32[3]): the base has no axis to index",
    ),
    (
        "%0 s: f32[2,5], %1 v: i32[2,3], %2 p: i32[]",
        "update[-1] %0, %1, %2",
        "update[-1](state: f32[2,5], values: i32[2,3], start: i32[]): element types differ: f32 and i32",
    ),
    (
        "%0 s: f32[2,5], %1 v: f32[3,5], %2 p: i32[]",
        "update[-1] %0, %1, %2",
        "update[-1](state: f32[2,5], values: f32[3,5], start: i32[]): the values must be f32[2,5], with any number along axis -1",
    ),
    (
        "%0 s: f32[2,5], %1 v: f32[2], %2 p: i32[]",
        "update[-1] %0, %1, %2",
        "update[-1](state: f32[2,5], values: f32[2], start: i32[]): the values must be f32[2,1], with any number along axis -1",
    ),
    (
        "%0 s: f32[2,5], %1 v: f32[2,3], %2 p: f32[]",
        "update[-1] %0, %1, %2",
        "update[-1](state: f32[2,5], values: f32[2,3], start: f32[]): the start must be i32, not f32",
    ),
    (
        "%0 s: f32[2,5], %1 v: f32[2,3], %2 p: i32[5]",
        "update[-1] %0, %1, %2",
        "update[-1](state: f32[2,5], values: f32[2,3], start: i32[5]): the start must broadcast to i32[2,1]",
    ),
    (
        "%0 s: f32[2,5], %1 v: f32[2,3], %2 p: i32[1,2,1]",
        "update[-1] %0, %1, %2",
        "update[-1](state: f32[2,5], values: f32[2,3], start: i32[1,2,1]): the start must broadcast to i32[2,1]",
    ),
    ("%0 s: f32[], %1 v: f32[], %2 p: i32[]", "update[-1] %0, %1, %2", "update[-1](state: f32[], values: f32[], start: i32[]): f32[] has no axis -1"),
    ("%0 k: i32[]", "random_bits[4] %0", "random_bits[4](key: i32[]): the key must be u32, not i32"),
    ("%0 k: u32[2]", "random_bits[4] %0", "random_bits[4](key: u32[2]): the key must be a scalar"),
    ("%0 x: f32[2]", "tuple", "tuple(): there is nothing to put together"),
    ("%0 x: f32[2]", "get[0] %0", "get[0](x: f32[2]): there is no member 0"),
    ("%0 x: f32[2]", "softmax_bwd %0, 1.0", "softmax_bwd(y: f32[2], dy: f32[]): f32[] must be f32[2]"),
    ("%0 x: f32[]", "softmax %0", "softmax(x: f32[]): a row needs an axis"),
    ("%0 x: f32[]", "logsumexp %0", "logsumexp(x: f32[]): a row needs an axis"),
    ("%0 x: i32[2]", "softmax %0", "softmax(x: i32[2]): i32[2] is not f32"),
    ("%0 x: f32[2,3], %1 e: f32[2]", "layer_norm %0, %1", "layer_norm(x: f32[2,3], eps: f32[2]): eps must be a scalar"),
    ("%0 x: f32[3], %1 e: f32[1,1]", "rms_norm %0, %1", "rms_norm(x: f32[3], eps: f32[1,1]): eps must be a scalar"),
    (
        "%0 x: f32[2,3], %1 d: f32[3,3]",
        "layer_norm_bwd %0, 1e-5, %1",
        "layer_norm_bwd(x: f32[2,3], eps: f32[], dy: f32[3,3]): f32[3,3] must be f32[2,3]",
    ),
    (
        "%0 x: f32[2,5], %1 c: f32[2,2]",
        "rope %0, %1, %1",
        "rope(x: f32[2,5], cos: f32[2,2], sin: f32[2,2]): cos and sin must be alike, half as wide as x, and broadcast over it",
    ),
    (
        "%0 x: f32[2,6], %1 c: f32[3,3]",
        "rope %0, %1, %1",
        "rope(x: f32[2,6], cos: f32[3,3], sin: f32[3,3]): cos and sin must be alike, half as wide as x, and broadcast over it",
    ),
    (
        "%0 x: f32[2,6], %1 c: f32[2,3], %2 s: f32[1,3]",
        "rope %0, %1, %2",
        "rope(x: f32[2,6], cos: f32[2,3], sin: f32[1,3]): cos and sin must be alike, half as wide as x, and broadcast over it",
    ),
    ("%0 x: f32[2,T], %1 c: f32[2,T]", "rope %0, %1, %1", "rope(x: f32[2,T], cos: f32[2,T], sin: f32[2,T]): dim T must be a number here"),
    ("%0 x: f32[2,5], %1 l: f32[2,1]", "cross_entropy %0, %1", "cross_entropy(logits: f32[2,5], labels: f32[2,1]): labels must be i32, not f32"),
    ("%0 x: f32[2,5], %1 l: i32[2]", "cross_entropy %0, %1", "cross_entropy(logits: f32[2,5], labels: i32[2]): labels must be i32[2,1]"),
    (
        "%0 x: f32[2,5], %1 l: i32[2,1]",
        "cross_entropy_bwd %0, %1, %0",
        "cross_entropy_bwd(logits: f32[2,5], labels: i32[2,1], g: f32[2,5]): g must be f32[2,1]",
    ),
    (
        "%0 x: f32[1,2147483649], %1 l: i32[1,1]",
        "cross_entropy %0, %1",
        "cross_entropy(logits: f32[1,2147483649], labels: i32[1,1]): 2147483649 positions are more than an i32 counts",
    ),
    (
        "%0 a: f32[2,3], %1 b: f32[3,4,5]",
        "contract[ac,cb->ab] %0, %1",
        "contract[ac,cb->ab](a: f32[2,3], b: f32[3,4,5]): ac,cb->ab wants 2 and 2 axes",
    ),
    (
        "%0 a: f32[2,3], %1 b: f32[4,5]",
        "contract[ac,cb->ab] %0, %1",
        "contract[ac,cb->ab](a: f32[2,3], b: f32[4,5]): inner dims differ: label c is 3 and 4",
    ),
    ("%0 a: f32[2,3], %1 b: i32[3,4]", "contract[ac,cb->ab] %0, %1", "contract[ac,cb->ab](a: f32[2,3], b: i32[3,4]): i32[3,4] is not f32"),
    (
        "%0 a: bf16[2,3], %1 b: f32[3,4]",
        "contract[ac,cb->ab] %0, %1",
        "contract[ac,cb->ab](a: bf16[2,3], b: f32[3,4]): element types differ: bf16 and f32",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[3,5,1]",
        "attention[ac,bc,bd->ad|2] %0, %1, %2, 1.0",
        "attention[ac,bc,bd->ad|2](q: f32[2,4], k: f32[3,4], v: f32[3,5,1], scale: f32[]): labels ac,bc,bd->ad|2 do not fit the ranks of q, k and v",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,5], %2 v: f32[3,5]",
        "attention[ac,bc,bd->ad|2] %0, %1, %2, 1.0",
        "attention[ac,bc,bd->ad|2](q: f32[2,4], k: f32[3,5], v: f32[3,5], scale: f32[]): label c is 4 and 5",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[3,5]",
        "attention[ac,bc,bd->ad|2] %0, %1, %2, %0",
        "attention[ac,bc,bd->ad|2](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[2,4]): scale must be a scalar",
    ),
    (
        "%0 q: f32[2,4], %1 k: bf16[3,4], %2 v: f32[3,5]",
        "attention[ac,bc,bd->ad|2] %0, %1, %2, 1.0",
        "attention[ac,bc,bd->ad|2](q: f32[2,4], k: bf16[3,4], v: f32[3,5], scale: f32[]): element types differ: f32 and bf16",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[3,5]",
        "attention[ac,bc,bd->ab|2] %0, %1, %2, 1.0",
        "attention[ac,bc,bd->ab|2](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[]): label d is in one operand alone and not in the result",
    ),
    (
        "%0 q: f32[2,3,4], %1 k: f32[3,4], %2 v: f32[3,5]",
        "attention[abc,bc,bd->ad|2] %0, %1, %2, 1.0",
        "attention[abc,bc,bd->ad|2](q: f32[2,3,4], k: f32[3,4], v: f32[3,5], scale: f32[]): label b is the softmax's axis, which k and v have alone",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[3,5]",
        "attention[ac,bc,bd->d|2] %0, %1, %2, 1.0",
        "attention[ac,bc,bd->d|2](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[]): label a is in one operand alone and not in the result",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[2,3,5]",
        "attention[ac,bc,abd->d|2] %0, %1, %2, 1.0",
        "attention[ac,bc,abd->d|2](q: f32[2,4], k: f32[3,4], v: f32[2,3,5], scale: f32[]): label a of the scores is not in the result",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[3,5]",
        "attention[ac,bc,bd->ad|2|ax2] %0, %1, %2, 1.0",
        "attention[ac,bc,bd->ad|2|ax2](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[]): heads in groups of 2 must be in q, k, v, the scores and the result",
    ),
    (
        "%0 q: f32[4,2,4], %1 k: f32[4,3,4], %2 v: f32[2,3,5]",
        "attention[abd,acd,ace->abe|3|ax2] %0, %1, %2, 1.0",
        "attention[abd,acd,ace->abe|3|ax2](q: f32[4,2,4], k: f32[4,3,4], v: f32[2,3,5], scale: f32[]): label a is 4 and 8",
    ),
    (
        "%0 q: f32[1,2,4], %1 k: f32[1099511627776,1,1], %2 v: f32[2,3,5]",
        "attention[abd,acd,ace->abe|3|ax4294967295] %0, %1, %2, 1.0",
        "attention[abd,acd,ace->abe|3|ax4294967295](q: f32[1,2,4], k: f32[1099511627776,1,1], v: f32[2,3,5], scale: f32[]): 1099511627776 groups of 4294967295 are too many",
    ),
    (
        "%0 q: f32[2097152,1]",
        "attention[ac,bc,bd->ad|2] %0, %0, %0, 1.0",
        "attention[ac,bc,bd->ad|2](q: f32[2097152,1], k: f32[2097152,1], v: f32[2097152,1], scale: f32[]): the scores: f32[2097152,2097152] has too many elements (more than 1099511627776)",
    ),
    (
        "%0 q: f32[1,1], %1 k: f32[2147483649,1]",
        "attention[ac,bc,bd->ad|2|causal] %0, %1, %1, 1.0",
        "attention[ac,bc,bd->ad|2|causal](q: f32[1,1], k: f32[2147483649,1], v: f32[2147483649,1], scale: f32[]): 2147483649 positions are more than an i32 counts",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[3,5]",
        "attention[ac,bc,bd->ad|2|df=mul(g,2.0)] %0, %1, %2, 1.0",
        "attention[ac,bc,bd->ad|2|df=mul(g,2.0)](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[]): a derivative stands in attention itself",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[3,5], %3 b: f32[2,4]",
        "attention[ac,bc,bd->ad|2|f=add(s,x0)] %0, %1, %2, 1.0, %3",
        "attention[ac,bc,bd->ad|2|f=add(s,x0)](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[], x…: f32[2,4]): x0 is f32[2,4], which does not broadcast over the scores [2,3]",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[3,5]",
        "attention[ac,bc,bd->ad|2|f=add(s,x0)] %0, %1, %2, 1.0",
        "attention[ac,bc,bd->ad|2|f=add(s,x0)] takes 5 operands (q, k, v, scale, x…), not 4",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[3,5], %3 b: i32[2,1]",
        "attention[ac,bc,bd->ad|2|f=add(s,x0)] %0, %1, %2, 1.0, %3",
        "attention[ac,bc,bd->ad|2|f=add(s,x0)](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[], x…: i32[2,1]): add(a: f32[2,3], b: i32[2,1]): element types differ: f32 and i32",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[3,5]",
        "attention[ac,bc,bd->ad|2|f=cast[f32](i)] %0, %1, %2, 1.0",
        "attention[ac,bc,bd->ad|2|f=cast[f32](i)](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[]): f of a score's function is f32[2,1], expected f32[2,3]",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[3,5]",
        "attention[ac,bc,bd->ad|2|w=mul(s,2.0)] %0, %1, %2, 1.0",
        "attention[ac,bc,bd->ad|2|w=mul(s,2.0)](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[]): w of a score's function depends on the score",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[3,5]",
        "attention[ac,bc,bd->ad|2|f=mul(s,g)] %0, %1, %2, 1.0",
        "attention[ac,bc,bd->ad|2|f=mul(s,g)](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[]): g stands in what is no derivative",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[3,5]",
        "attention[ac,bc,bd->ad|2|f=sum[-1](s)] %0, %1, %2, 1.0",
        "attention[ac,bc,bd->ad|2|f=sum[-1](s)](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[]): sum[-1] is not pointwise, and stands in a score's function",
    ),
    (
        "%0 q: f32[2,4], %1 k: f32[3,4], %2 v: f32[3,5], %3 l: f32[2]",
        "attention_bwd[ac,bc,bd->ad|2] %0, %1, %2, %0, %3, %0, 1.0",
        "attention_bwd[ac,bc,bd->ad|2](q: f32[2,4], k: f32[3,4], v: f32[3,5], o: f32[2,4], lse: f32[2], do: f32[2,4], scale: f32[]): o, lse and do must be as attention gives them: (f32[2,5],f32[2])",
    ),
];

fn message(inputs: &str, call: &str) -> String {
    let text = format!("main({inputs}) {{\n  %9 = {call} : f32[7]\n  return y=%0\n}}\n");
    let error = text.parse::<Graph>().expect_err(&text);
    assert_eq!(error.line, 2, "{error}\n{text}");
    error.message
}

#[test]
fn ill_typed_programs_say_what_is_wrong() {
    for (inputs, call, want) in PROGRAMS {
        assert_eq!(message(inputs, call), *want, "main({inputs}): {call}");
    }
}

fn ein(a: &[u8], b: &[u8], out: u8) -> Op {
    Op::Contract(Ein { a: a.iter().copied().collect(), b: b.iter().copied().collect(), out })
}

/// What the text cannot say, for its ops read only what may be: ops made by hand, their operands, and the message.
fn by_hand() -> Vec<(Op, Vec<Type>, &'static str)> {
    let f = |dims: &[u64]| Type::of(DType::F32, dims.iter().map(|d| Dim::num(*d)));
    let one = || Attn {
        q: [0, 2].into_iter().collect(),
        k: [1, 2].into_iter().collect(),
        v: [1, 3].into_iter().collect(),
        o: [0, 3].into_iter().collect(),
        scores: 2,
        f: crate::common::score(false),
        group: 1,
        head: 0,
    };
    let attention = |a: Attn| (Op::Attention(a), vec![f(&[2, 4]), f(&[3, 4]), f(&[3, 5]), f(&[])]);
    let tuple = Type::tuple(vec![f(&[2])]);
    let mut all = vec![
        (Op::Param("w".into(), tuple.clone()), vec![], "@w(): (f32[2]) is not the type of a tensor"),
        (Op::Input(0, tuple.clone()), vec![], "%in0(): (f32[2]) is not the type of a tensor"),
        (Op::StopGradient, vec![tuple.clone()], "stop_gradient(x: (f32[2])): a tuple is not a tensor; take a member with get"),
        (Op::Tuple, vec![tuple], "tuple(x…: (f32[2])): a tuple is not a tensor; take a member with get"),
        (Op::Const(1.0f64.to_bits(), DType::BF16), vec![], "1.0(): a number is f32; cast it to bf16"),
        (Op::Const(1.5f64.to_bits(), DType::I32), vec![], "1(): this is no number of type i32"),
        (Op::Const(3e9f64.to_bits(), DType::I32), vec![], "3000000000(): this is no number of type i32"),
        (Op::Const((-0.0f64).to_bits(), DType::I32), vec![], "0(): this is no number of type i32"),
        (Op::Const((-1.0f64).to_bits(), DType::U32), vec![], "0u(): this is no number of type u32"),
        (Op::Const(4294967296.0f64.to_bits(), DType::U32), vec![], "4294967296u(): this is no number of type u32"),
        (Op::Const(2.0f64.to_bits(), DType::Bool), vec![], "true(): this is no number of type bool"),
        (Op::Const((-f64::NAN).to_bits(), DType::F32), vec![], "NaN(): this is no number of type f32"),
        (Op::Iota(0, Dim::num(3)), vec![], "iota[0,3](): axes count from the end: -1 is the last, and 0 is none"),
        (Op::Iota(-17, Dim::num(3)), vec![], "iota[-17,3](): a tensor has at most 16 axes, not 17"),
        (Op::Iota(-1, Dim::sym('b')), vec![], "iota[-1,?](): i32[?] names a dim by something else than one capital letter"),
        (Op::Cast(DType::Tuple), vec![f(&[2])], "cast[tuple](x: f32[2]): a tuple has no element type"),
        (
            Op::Repeat(Loop { func: 0, trip: 2, carried: 1, stacked: 0, reverse: false }),
            vec![f(&[2])],
            "repeat[f0,2,1,0](x…: f32[2]): the type of a repeat depends on its body",
        ),
        (
            ein(&[0, 0], &[0, 1], 2),
            vec![f(&[2, 2]), f(&[2, 2])],
            "contract[aa,ab->ab](a: f32[2,2], b: f32[2,2]): label a stands twice for one tensor",
        ),
        (
            ein(&[26, 0], &[26, 1], 2),
            vec![f(&[2, 2]), f(&[2, 2])],
            "contract[{a,{b->ab](a: f32[2,2], b: f32[2,2]): label 26 is too large; there are 26",
        ),
        (ein(&[0, 2], &[2, 1], 4), vec![f(&[2, 2]), f(&[2, 2])], "contract[ac,cb->abcd](a: f32[2,2], b: f32[2,2]): label d has no size"),
        (
            ein(&[0, 2], &[1, 2], 1),
            vec![f(&[2, 2]), f(&[2, 2])],
            "contract[ac,bc->a](a: f32[2,2], b: f32[2,2]): label b is in one operand alone and not in the result",
        ),
        (
            ein(&[0, 3], &[1, 3], 1),
            vec![f(&[2, 2]), f(&[2, 2])],
            "contract[ad,bd->a](a: f32[2,2], b: f32[2,2]): label b is in one operand alone and not in the result",
        ),
    ];
    let bad = |want: &'static str, edit: &dyn Fn(&mut Attn)| {
        let mut a = one();
        edit(&mut a);
        let (op, types) = attention(a);
        (op, types, want)
    };
    all.push(bad("attention[ac,bc,bd->ad|1](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[]): scores have 2 to 6 axes, not 1", &|a| {
        a.scores = 1
    }));
    all.push(bad("attention[ac,bc,bd->ad|7](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[]): scores have 2 to 6 axes, not 7", &|a| {
        a.scores = 7
    }));
    all.push(bad(
        "attention[abcdefghi,bc,bd->ad|2](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[]): an operand has at most 8 axes, not 9",
        &|a| a.q = (0..9).collect(),
    ));
    all.push(bad("attention[acc,bc,bd->ad|2](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[]): label c stands twice for one tensor", &|a| {
        a.q = [0, 2, 2].into_iter().collect()
    }));
    all.push(bad("attention[ac,bc,bd->ad|2](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[]): heads in groups of 0 must be in q, k, v, the scores and the result", &|a| a.group = 0));
    all.push(bad(
        "attention[ac,bc,bd->d|2](q: f32[2,4], k: f32[3,4], v: f32[3,5], scale: f32[]): label a is in one operand alone and not in the result",
        &|a| a.o = [3].into_iter().collect(),
    ));
    all
}

#[test]
fn ops_made_by_hand_say_what_is_wrong() {
    for (op, types, want) in by_hand() {
        assert_eq!(infer(&op, &types.iter().collect::<Vec<_>>()).expect_err(want), want, "{op:?}");
    }
}

/// Every string of the rule that is part of a message, cut at what is put in.
fn pieces() -> Vec<(usize, Vec<String>)> {
    let mut out = vec![];
    for (n, line) in include_str!("../ir/infer.rs").lines().enumerate() {
        let code = line.trim();
        if code.starts_with("//") {
            continue;
        }
        for literal in code.split('"').skip(1).step_by(2).filter(|l| l.contains(' ')) {
            let mut fixed = vec![];
            for part in literal.replace("{{", "\u{1}").replace("}}", "\u{2}").split('{') {
                let text = part.split_once('}').map_or(part, |(_, rest)| rest);
                fixed.push(text.replace('\u{1}', "{").replace('\u{2}', "}"));
            }
            out.push((n + 1, fixed));
        }
    }
    out
}

#[test]
fn every_error_of_the_rule_is_reached() {
    let messages: Vec<&str> = PROGRAMS.iter().map(|p| p.2).chain(by_hand().into_iter().map(|p| p.2)).collect();
    let all = pieces();
    assert!(all.len() > 40, "the strings of the rule are found");
    for (line, fixed) in all {
        let holds = |message: &&str| {
            let mut rest = *message;
            fixed.iter().all(|piece| rest.find(piece.as_str()).map(|at| rest = &rest[at + piece.len()..]).is_some())
        };
        assert!(messages.iter().any(holds), "line {line} of ir/infer.rs: no program has the message with {fixed:?}");
    }
}
