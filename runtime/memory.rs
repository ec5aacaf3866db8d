//! Aligned memory that kernels read and write.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};

/// Bytes above which memory is aligned for, and asked of the system as, huge pages.
const HUGE: usize = 2 << 20;

/// A block of zeroed memory.
pub struct Block {
    start: *mut u8,
    layout: Layout,
    bytes: usize,
}

// SAFETY: a block is plain memory that it alone owns.
unsafe impl Send for Block {}
// SAFETY: shared access only reads, and kernels write under the session's exclusive borrow.
unsafe impl Sync for Block {}

impl Block {
    /// Zeroed memory of at least one cache line, or why there is none.
    pub fn new(bytes: usize) -> Result<Block, String> {
        let align = if bytes >= HUGE { HUGE } else { 64 };
        // vectors may read one register past the last element's line, never past the block
        let size = (bytes + 64).next_multiple_of(align);
        let layout = Layout::from_size_align(size, align).map_err(|_| format!("{bytes} bytes are more than can be addressed"))?;
        // SAFETY: the layout has a size that is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        if start.is_null() {
            return Err(format!("out of memory: {bytes} bytes were refused; a smaller batch or context needs less"));
        }
        if bytes >= HUGE {
            // SAFETY: the range was just allocated; the call is advice, and its failure only costs speed.
            #[cfg(target_os = "linux")]
            unsafe {
                libc::madvise(start.cast(), size, libc::MADV_HUGEPAGE);
            }
        }
        Ok(Block { start, layout, bytes })
    }

    /// The address of a byte.
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.bytes, "byte {offset} of a block of {}", self.bytes);
        // SAFETY: the offset is inside the block or one past it.
        unsafe { self.start.add(offset) }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the block is initialised and owned; the borrow is shared.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the block is initialised and owned; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) }
    }

    /// The elements as `f32`.
    pub fn f32s(&self) -> &[f32] {
        // SAFETY: the block is aligned to 64 bytes, and every bit pattern is an f32.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.bytes / 4) }
    }

    /// The elements as `f32`, to write.
    pub fn f32s_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `f32s`, with an exclusive borrow.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.bytes / 4) }
    }

    /// The elements as `i32`, to write.
    pub fn i32s_mut(&mut self) -> &mut [i32] {
        // SAFETY: as in `f32s_mut`.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.bytes / 4) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the block was allocated with this layout and is dropped once.
        unsafe { dealloc(self.start, self.layout) }
    }
}
