//! How parameters start: a function of the seed, the name and the element, so that any subset can be made in any order.

/// The distribution a parameter starts from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Evenly between minus this bound and the bound.
    Uniform(f64),
}

impl Init {
    /// Fills a tensor.
    pub fn fill(self, seed: u64, name: &str, out: &mut [f32]) {
        self.numbers(seed, name)(out);
    }

    /// Gives a tensor's numbers in order, as many as it is given room for each time; an even number each time but the last.
    pub fn numbers(self, seed: u64, name: &str) -> impl FnMut(&mut [f32]) {
        let mut random = SplitMix(seed ^ hash(name));
        move |out| match self {
            Init::Zeros => out.fill(0.0),
            Init::Ones => out.fill(1.0),
            Init::Uniform(bound) => out.iter_mut().for_each(|x| *x = ((2.0 * unit(random.next()) - 1.0) * bound) as f32),
            Init::Normal(deviation) => {
                for pair in out.chunks_mut(2) {
                    let (a, b) = random.normals();
                    pair[0] = (a * deviation) as f32;
                    if let Some(second) = pair.get_mut(1) {
                        *second = (b * deviation) as f32;
                    }
                }
            }
        }
    }
}

/// FNV-1a.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3))
}

/// A number between 0 and 1, neither of them.
fn unit(x: u64) -> f64 {
    ((x >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// SplitMix64 (Steele, Lea & Flood 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Two independent normals, by Box and Muller's transform.
    fn normals(&mut self) -> (f64, f64) {
        let (u, v) = (unit(self.next()), unit(self.next()));
        let r = (-2.0 * u.ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * v).sin_cos();
        (r * cos, r * sin)
    }
}
