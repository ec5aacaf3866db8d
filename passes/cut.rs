//! What to save of a forward body so that its backward can run: the fewest bytes.

use petgraph::algo::ford_fulkerson;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

/// A value of a forward body, as saving and computing again see it.
#[derive(Clone, Debug, Default)]
pub struct Saveable {
    /// What saving it costs; `None` where it cannot be saved.
    pub bytes: Option<u64>,
    /// Whether it must not be computed again.
    pub once: bool,
    /// Whether the backward reads it.
    pub read: bool,
    /// The values before it that it is made of; what is free for both directions is left out.
    pub needs: Vec<usize>,
}

/// More than any program has bytes.
const INFINITE: u64 = 1 << 50;

/// The values to save: every value that is read is saved, or computed again from saved ones. A minimum cut between what must not be
/// computed again and what is read; of several, the one nearest to the readers, which computes least again.
pub fn cheapest_cut(values: &[Saveable]) -> Vec<usize> {
    let mut graph: DiGraph<(), u64> = DiGraph::new();
    let (source, sink) = (graph.add_node(()), graph.add_node(()));
    let ports: Vec<(NodeIndex, NodeIndex)> = values.iter().map(|_| (graph.add_node(()), graph.add_node(()))).collect();
    for (v, (enter, leave)) in values.iter().zip(&ports) {
        graph.add_edge(*enter, *leave, v.bytes.map_or(INFINITE, |b| b.max(1)));
        if v.once {
            graph.add_edge(source, *enter, INFINITE);
        }
        if v.read {
            graph.add_edge(*leave, sink, INFINITE);
        }
        for n in &v.needs {
            graph.add_edge(ports[*n].1, *enter, INFINITE);
        }
    }
    let (_, flow) = ford_fulkerson(&graph, source, sink);
    let reaches = reaching(&graph, &flow, sink);
    (0..values.len()).filter(|v| !reaches[ports[*v].0.index()] && reaches[ports[*v].1.index()]).collect()
}

/// The nodes from which more could flow to the sink.
fn reaching(graph: &DiGraph<(), u64>, flow: &[u64], sink: NodeIndex) -> Vec<bool> {
    let mut reaches = vec![false; graph.node_count()];
    let mut stack = vec![sink];
    reaches[sink.index()] = true;
    while let Some(n) = stack.pop() {
        let into = graph.edges_directed(n, petgraph::Incoming).filter(|e| flow[e.id().index()] < *e.weight()).map(|e| e.source());
        let back = graph.edges_directed(n, petgraph::Outgoing).filter(|e| flow[e.id().index()] > 0).map(|e| e.target());
        for m in into.chain(back) {
            if !std::mem::replace(&mut reaches[m.index()], true) {
                stack.push(m);
            }
        }
    }
    reaches
}
