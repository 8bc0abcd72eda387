// A node by its id as the server has it: with those of the subgraphs that it is in.

import { app } from "../../../scripts/app.js";

export const root = () => app.rootGraph ?? app.graph.rootGraph ?? app.graph;

export function nodeAt(path) {
  let [graph, node] = [root(), undefined];
  for (const id of String(path).split(":")) {
    node = graph?.getNodeById(Number(id));
    graph = node?.subgraph;
  }
  return node;
}
