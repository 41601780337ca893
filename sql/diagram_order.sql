-- The diagram of the built-in machine, in both formats.
\a \t
SELECT ordflow.diagram();
SELECT ordflow.diagram('order', 'dot');
SELECT ordflow.diagram() = ordflow.diagram(machine => 'order', format => 'mermaid');
