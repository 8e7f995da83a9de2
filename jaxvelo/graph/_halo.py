"""Values of the cells that lie on several devices, each with those of its own cells and of their neighbours."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

Pair = tuple[int, int]


class Halo(eqx.Module):
    """Which values of cells each device of a mesh has, and which it gets from others.

    Values of the cells are in the order of the devices: each has those of its own cells, as many as it has rows of the
    graph, and no other. Before a loop over the rows, each receives those of its rows' neighbours that are on other
    devices (the halo) and puts them behind its own. The exchange goes in rounds, in which each device sends to at most
    one other and receives from at most one; all in a round send as many values, and pairs that exchange similar numbers
    share one.

    Attributes
    ----------
    cells
        Cell of each row, in the order of the devices, shape ``(rows,)``. As in the pattern of the graph, unused rows
        name cell 0.
    rows, columns
        As of the pattern of the graph, as places among a device's own and received values.
    sent
        Places of the values that each device sends, one array of shape ``(devices, values)`` for each round; padded.
    pairs
        Which device sends to which, in each round.
    mesh
        The devices.

    Examples
    --------
    >>> mesh = jax.make_mesh((1,), ("cells",))  # of one device: nothing is sent
    >>> shared = jv.graph.NeighborGraph.from_csr(adata.obsp["connectivities"], mesh=mesh, halo=True)
    >>> shared.halo.n_sent, shared.halo.place(x).shape == (shared.n_rows, 40)
    (0, True)
    """

    cells: Int[Array, " rows"]
    rows: tuple[Int[Array, " rows"], ...]
    columns: tuple[Int[Array, "rows width"], ...]
    sent: tuple[Int[Array, "devices values"], ...]
    pairs: tuple[tuple[Pair, ...], ...] = eqx.field(static=True)
    mesh: Mesh = eqx.field(static=True)

    @property
    def n_sent(self) -> int:
        """Number of cells whose values are sent from one device to another in an exchange, on all devices together."""
        return sum(places.shape[1] * len(pairs) for places, pairs in zip(self.sent, self.pairs, strict=True))

    def place(self, of_cells: Any) -> Array:
        """Bring values of the cells to the devices: each gets those of its own.

        Parameters
        ----------
        of_cells
            Values whose first axis are the cells. Of an array on the host, no more is copied than the devices of this
            process get.

        Returns
        -------
        jax.Array
            Values in the order of :attr:`cells`, shape ``(rows, ...)``, each device with those of its own rows.
        """
        sharding = NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names))
        if not isinstance(of_cells, np.ndarray):
            return jax.lax.with_sharding_constraint(jnp.asarray(of_cells)[self.cells], sharding)
        cells = {shard.device: np.asarray(shard.data) for shard in self.cells.addressable_shards}
        shares = [jax.device_put(of_cells[own], device) for device, own in cells.items()]
        shape = (self.cells.shape[0], *of_cells.shape[1:])
        return jax.make_array_from_single_device_arrays(shape, sharding, shares)

    def exchange(self, of_cells: Any) -> Any:
        """Give each device the values of its rows' neighbours too, behind those of its own cells.

        Parameters
        ----------
        of_cells
            Arrays in the order of :meth:`place`, in a tree.

        Returns
        -------
        tree of jax.Array
            Longer arrays: each device has the values of its own cells, those that it receives in the first round, and
            so on, where :attr:`rows` and :attr:`columns` find them.
        """
        axes = self.mesh.axis_names
        by_row = PartitionSpec(axes)

        def on_device(of_cells, sent):
            def with_neighbors(own):
                received = [
                    jax.lax.ppermute(own[places[0]], axes, pairs)
                    for places, pairs in zip(sent, self.pairs, strict=True)
                ]
                return jnp.concatenate([own, *received])

            return jax.tree.map(with_neighbors, of_cells)

        return jax.shard_map(on_device, mesh=self.mesh, in_specs=by_row, out_specs=by_row)(of_cells, self.sent)

    def of_rows(self, of_cells: Array) -> tuple[Array, ...]:
        """Values of each row's own cell, bucket by bucket.

        Parameters
        ----------
        of_cells
            An array in the order of :meth:`place`.

        Returns
        -------
        tuple of jax.Array
            One array for each bucket, shape ``(rows, ...)``.
        """
        by_row = PartitionSpec(self.mesh.axis_names)

        def on_device(own):
            ends = np.cumsum([rows.shape[0] // self.mesh.size for rows in self.rows])[:-1]
            return tuple(jnp.split(own, ends))

        return jax.shard_map(on_device, mesh=self.mesh, in_specs=by_row, out_specs=by_row)(of_cells)


def exchange_rounds(counts: Int[np.ndarray, "devices devices"]) -> list[tuple[int, list[Pair]]]:
    """Arrange an exchange in rounds, in which each device sends to at most one other and receives from at most one.

    Parameters
    ----------
    counts
        How many values each device (row) sends to each other one (column).

    Returns
    -------
    Number of values and pairs of devices of each round. Pairs with similar numbers share a round: all send the largest.
    """
    pairs = sorted(zip(*np.nonzero(counts), strict=True), key=lambda pair: (-counts[pair], pair))
    rounds: list[tuple[int, list[Pair]]] = []
    for source, target in pairs:
        for _, members in rounds:
            if all(source != s and target != t for s, t in members):
                members.append((int(source), int(target)))
                break
        else:
            rounds.append((int(counts[source, target]), [(int(source), int(target))]))
    return rounds


def halo_places(
    device: Int[np.ndarray, " cells"],
    place: Int[np.ndarray, " cells"],
    n_places: int,
    entry_rows: Int[np.ndarray, " entries"],
    entry_columns: Int[np.ndarray, " entries"],
    n_devices: int,
) -> tuple[np.ndarray, list[np.ndarray], tuple[tuple[Pair, ...], ...]]:
    """Find what is exchanged, and where each entry's neighbour is then.

    Parameters
    ----------
    device, place
        Device of each cell, and place of its values there.
    n_places
        Number of values that a device has.
    entry_rows, entry_columns
        Cell and neighbour of each entry of the graph.
    n_devices
        Number of devices.

    Returns
    -------
    Place of each entry's neighbour on the device of the entry's row; ``sent`` and ``pairs`` of :class:`Halo`.
    """
    n_cells = len(device)
    target = device[entry_rows]
    places = place[entry_columns]
    outside = np.flatnonzero(device[entry_columns] != target)
    wanted, which = np.unique(target[outside].astype(np.int64) * n_cells + entry_columns[outside], return_inverse=True)
    to, cell = wanted // n_cells, wanted % n_cells
    pair = device[cell] * np.int64(n_devices) + to
    order = np.argsort(pair, kind="stable")
    counts = np.bincount(pair, minlength=n_devices**2).reshape(n_devices, n_devices)
    ends = np.cumsum(counts.ravel())
    received = np.empty(len(wanted), dtype=np.int32)
    sent, pairs, first = [], [], n_places
    for size, members in exchange_rounds(counts):
        of_round = np.zeros((n_devices, size), dtype=np.int32)
        for source, number in ((s, s * n_devices + t) for s, t in members):
            chosen = order[ends[number] - counts.flat[number] : ends[number]]
            of_round[source, : len(chosen)] = place[cell[chosen]]
            received[chosen] = first + np.arange(len(chosen))
        sent.append(of_round)
        pairs.append(tuple(members))
        first += size
    places[outside] = received[which]
    return places, sent, tuple(pairs)
