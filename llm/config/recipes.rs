//! Lists the recipes: each file in `recipes/` is one, so that adding one touches nothing else.

use std::path::Path;

fn main() {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("Cargo sets it")).join("config/recipes");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut files: Vec<_> = std::fs::read_dir(&folder).expect("the folder is there").map(|f| f.expect("it can be listed").path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "toml"));
    files.sort();
    let row = |f: &std::path::PathBuf| format!("Recipe {{ name: {:?}, text: include_str!({:?}) }},\n", f.file_stem().expect("it has a name"), f);
    let list = format!("&[\n{}]", files.iter().map(row).collect::<String>());
    let out = Path::new(&std::env::var("OUT_DIR").expect("Cargo sets it")).join("recipes.rs");
    std::fs::write(out, list).expect("the list can be written");
}
