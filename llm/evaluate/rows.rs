//! Texts to rows: what texts share at their beginning is read once.

/// A text of which the last tokens are asked for, each by those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its tokens, one more at least than are asked.
    pub tokens: Vec<i32>,
    /// How many are asked.
    pub asked: usize,
}

impl Request {
    /// The tokens that a model reads: the last is only guessed.
    pub fn read(&self) -> &[i32] {
        &self.tokens[..self.tokens.len().saturating_sub(1)]
    }
}

/// A token that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Where in the row the token stands that it follows.
    pub place: usize,
    /// The token.
    pub label: i32,
    /// The number of the request.
    pub request: usize,
}

/// A row of tokens: texts as trees, in the order of a walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The tokens.
    pub tokens: Vec<i32>,
    /// Where in its text each stands.
    pub positions: Vec<i32>,
    /// Where in the row those end that come after each.
    pub until: Vec<i32>,
    /// What is asked.
    pub asked: Vec<Asked>,
    /// The places that lead to the last token.
    path: Vec<usize>,
}

impl Row {
    /// How many of these tokens are there already, at the beginning of the text that was added last.
    fn shared(&self, read: &[i32]) -> usize {
        self.path.iter().zip(read).take_while(|(place, token)| self.tokens[**place] == **token).count()
    }

    /// Whether a request fits into a row of so many tokens, and of as many that are asked.
    fn takes(&self, request: &Request, most: usize) -> bool {
        let read = request.read();
        self.tokens.len() + read.len() - self.shared(read) <= most && self.asked.len() + request.asked <= most
    }

    fn add(&mut self, number: usize, request: &Request) {
        let read = request.read();
        let shared = self.shared(read);
        self.leave(shared);
        for (position, token) in read.iter().enumerate().skip(shared) {
            self.path.push(self.tokens.len());
            self.tokens.push(*token);
            self.positions.push(position as i32);
            self.until.push(0);
        }
        for i in request.tokens.len() - request.asked..request.tokens.len() {
            self.asked.push(Asked { place: self.path[i - 1], label: request.tokens[i], request: number });
        }
    }

    /// Goes back to the first so many tokens of the text: nothing comes after the others.
    fn leave(&mut self, first: usize) {
        let end = self.tokens.len() as i32;
        self.path.drain(first..).for_each(|place| self.until[place] = end);
    }
}

/// Rows of at most so many tokens, or of one request that has more, which ask every request. Where trees are `shared`, a row has as many
/// requests as fit, and what those share is in it once; else each request is a row.
pub fn rows(requests: &[Request], most: usize, shared: bool) -> Vec<Row> {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    // in this order texts that begin alike stand together, or in the other those of like length
    if shared {
        order.sort_by(|a, b| requests[*a].tokens.cmp(&requests[*b].tokens));
    } else {
        order.sort_by_key(|i| requests[*i].tokens.len());
    }
    let mut all: Vec<Row> = vec![];
    for i in order {
        match all.last_mut() {
            Some(row) if shared && row.takes(&requests[i], most) => row.add(i, &requests[i]),
            _ => {
                let mut row = Row::default();
                row.add(i, &requests[i]);
                all.push(row);
            }
        }
    }
    all.iter_mut().for_each(|row| row.leave(0));
    all
}
