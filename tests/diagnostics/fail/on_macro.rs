use session_refresh::session_refresh;

#[session_refresh]
macro_rules! handler {
    () => {};
}

fn main() {}
