"""The one room that reads and writes AnnData: graphs, genes, cells, features, clusters, colours, results."""
