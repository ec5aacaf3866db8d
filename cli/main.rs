//! The program `eggcorn`: the command line of the library, for the models of this project.

fn main() -> std::process::ExitCode {
    eggcorn::cli::main_with(&[])
}
