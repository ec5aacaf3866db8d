//! Aligned memory that kernels read and write.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};

/// Bytes above which memory is mapped on its own and asked of the system as huge pages.
const LARGE: usize = 2 << 20;

/// A block of zeroed memory. Large blocks are mapped, so that pages nobody touches cost nothing.
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
        let refused = || format!("out of memory: {bytes} bytes were refused; a smaller batch or context needs less");
        let size = bytes.checked_add(64).ok_or_else(refused)?.next_multiple_of(64);
        let layout = Layout::from_size_align(size, 64).map_err(|_| refused())?;
        let start = if size >= LARGE {
            // SAFETY: an anonymous private mapping has no preconditions.
            let start =
                unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
            if start == libc::MAP_FAILED {
                return Err(refused());
            }
            // SAFETY: the range was just mapped; the call is advice, and its failure only costs speed.
            #[cfg(target_os = "linux")]
            unsafe {
                libc::madvise(start, size, libc::MADV_HUGEPAGE);
            }
            start.cast()
        } else {
            // SAFETY: the layout has a size that is not zero.
            unsafe { alloc_zeroed(layout) }
        };
        if start.is_null() { Err(refused()) } else { Ok(Block { start, layout, bytes }) }
    }

    /// The address of so many bytes from an offset on.
    #[cfg(feature = "llvm")]
    pub(crate) fn at(&self, offset: usize, bytes: usize) -> *mut u8 {
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        assert!(inside, "{bytes} bytes from byte {offset} of a block of {}", self.bytes);
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
        if self.layout.size() >= LARGE {
            // SAFETY: the block was mapped with this size and is dropped once.
            unsafe { libc::munmap(self.start.cast(), self.layout.size()) };
        } else {
            // SAFETY: the block was allocated with this layout and is dropped once.
            unsafe { dealloc(self.start, self.layout) }
        }
    }
}
