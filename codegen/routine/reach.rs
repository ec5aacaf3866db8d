//! What a graphics processor's kernels can count: their indices have 32 bits.

use super::program::Program;

/// The most elements of an operand and threads of a launch. Indices are rounded up to whole cubes and vectors before they are compared
/// with the end, so there must be room above.
pub const COUNT_MAX: usize = (1 << 32) - (1 << 16);

impl Program {
    /// Refuses what indices of 32 bits cannot reach, with the number: operands with more than [`COUNT_MAX`] elements, and launches of
    /// more threads.
    pub fn check_reach(&self) -> Result<(), String> {
        let refuse = |kernel: usize, count: usize, what: &str| {
            let name = &self.kernels[kernel].name;
            Err(format!(
                "kernel {name} counts {count} {what}, and a graphics processor's kernels count in 32 bits, to {COUNT_MAX}: \
                 use a smaller batch, context or model, or --device cpu"
            ))
        };
        for call in self.calls() {
            let params = &self.specs[call.kernel].params;
            for (param, address) in params.iter().zip(&call.args) {
                let elements = address.bytes / param.elem.bytes();
                if elements > COUNT_MAX {
                    return refuse(call.kernel, elements, "elements of one operand");
                }
            }
        }
        for (i, kernel) in self.kernels.iter().enumerate() {
            let threads = kernel.units.saturating_mul(kernel.cube.unwrap_or(1));
            if threads > COUNT_MAX {
                return refuse(i, threads, "threads");
            }
        }
        Ok(())
    }
}
