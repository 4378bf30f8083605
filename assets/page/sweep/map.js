// The map of a sweep over both dials. Each cell is a setting, with its cost as colour and number. Cells whose text is the LLM's own have a
// line around them. The pointer and the arrow keys move the point.
import { make, say } from '../lib/dom.js';
import { distinct } from '../lib/format.js';

const REST = 350;   // milliseconds after a key; `slider/commit.js` waits longer, so the map comes first

const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
  Home: [0, -99], End: [0, 99], PageUp: [-99, 0], PageDown: [99, 0] };
const EDGES = { top: [-1, 0], right: [0, 1], bottom: [1, 0], left: [0, -1] };

const SAID = { '✓': ', right', '✗': ', wrong', '': '' };

const within = (value, length) => Math.min(Math.max(value, 0), length - 1);

// ".93" for 0.930.
const short = (text) => (Number(text) === 0 ? '0' : Number(text) === 1 ? '1' : text.replace(/^0/, '').replace(/0+$/, ''));

// Thresholds go from left to right, acceptances from the bottom up.
const axesOf = (points) => {
  const sorted = (dial) => [...new Set(points.map((point) => point[dial]))].sort((a, b) => a - b);
  return { thresholds: sorted(0), acceptances: sorted(1).reverse() };
};

const label = (role, text, ariaLabel) => Object.assign(make('span', 'map-label', text), { role, ariaLabel });

const rowOf = (...nodes) => {
  const row = Object.assign(make('div', 'map-row'), { role: 'row' });
  row.append(...nodes);
  return row;
};

// A row is a setting's place in the message. `costAt(row)`, `isOwn(row)` and `verdictAt(row)` (✓, ✗ or nothing) describe a cell. `pick(row, [threshold, acceptance], released)`
// is called when the point moves, and once more with `released` when it stays.
export const startMap = (element, { costAt, isOwn, verdictAt, pick }) => {
  const box = element.querySelector('.map-cells');
  let points = [], axes = { thresholds: [], acceptances: [] }, cells = [], point = [0, 0], held = null, resting = 0;

  // The last column is LLM-only, which is one text at any acceptance.
  const rowAt = ([y, x]) => (x === axes.thresholds.length - 1 ? points.length - 1
    : points.findIndex(([threshold, acceptance]) => threshold === axes.thresholds[x] && acceptance === axes.acceptances[y]));

  const build = () => {
    const { thresholds, acceptances } = axes, routed = thresholds.slice(0, -1);
    const written = (distinct(routed, [2, 3, 4, 5]) ?? routed.map((threshold) => threshold.toFixed(6))).map(short);
    cells = acceptances.map(() => thresholds.map(() => Object.assign(make('span', 'map-cell'), { role: 'gridcell' })));
    const rows = acceptances.map((acceptance, y) => (
      rowOf(label('rowheader', short(acceptance.toFixed(2)), `acceptance ${acceptance}`), ...cells[y])));
    const foot = rowOf(label('gridcell', ''), ...thresholds.map((threshold, x) => (
      label('columnheader', written[x] ?? 'large', x < written.length ? `threshold ${threshold}` : 'large model only'))));
    box.style.setProperty('--columns', thresholds.length);
    box.replaceChildren(...rows, foot);
  };

  const colour = () => {
    const map = (valueAt) => cells.map((line, y) => line.map((_, x) => valueAt(rowAt([y, x])))), costs = map(costAt), own = map(isOwn);
    const known = costs.flat().filter((cost) => cost !== null), low = Math.min(...known), high = Math.max(...known);
    cells.forEach((line, y) => line.forEach((cell, x) => {
      const cost = costs[y][x], whole = Math.round(100 * cost), verdict = verdictAt(rowAt([y, x]));
      const isRepeated = x === line.length - 1 && y !== cells.length >> 1;   // LLM-only is one text, so its column has one number
      say(cell, isRepeated ? '' : cost === null ? '·' : `${whole}${verdict && ` ${verdict}`}`);
      cell.style.setProperty('--cost', cost !== null && high > low ? (cost - low) / (high - low) : 0);
      cell.ariaLabel = cost === null ? 'not written yet' : `${whole} % of the large model’s cost${SAID[verdict]}${own[y][x] ? ', the same words as the large model alone' : ''}`;
      for (const [edge, [down, right]] of Object.entries(EDGES)) {
        cell.style.setProperty(`--${edge}`, own[y][x] && !own[y + down]?.[x + right] ? 1 : 0);
      }
    }));
  };

  const setPoint = (at) => {
    point = at;
    const chosen = cells[at[0]][at[1]];
    for (const cell of cells.flat()) Object.assign(cell, { ariaSelected: cell === chosen, tabIndex: cell === chosen ? 0 : -1 });
  };

  const go = (at, released) => {
    setPoint(at);
    pick(rowAt(at), [axes.thresholds[at[1]], axes.acceptances[at[0]]], released);
  };

  // The cell under the pointer; outside the map it is the last one.
  const under = ({ clientX, clientY }) => {
    const cell = document.elementFromPoint(clientX, clientY), y = cells.findIndex((line) => line.includes(cell));
    return y < 0 ? held : [y, cells[y].indexOf(cell)];
  };

  const release = () => {
    if (held) go(held, true);
    held = null;
  };

  box.addEventListener('pointerdown', (event) => {
    if (event.button !== 0 || !event.target.closest('.map-cell')) return;
    event.preventDefault();   // so that no text is selected
    box.setPointerCapture(event.pointerId);
    go(held = under(event), false);
    cells[held[0]][held[1]].focus({ preventScroll: true });
  });
  box.addEventListener('pointermove', (event) => {
    const at = held && under(event);
    if (at && (at[0] !== held[0] || at[1] !== held[1])) go(held = at, false);
  });
  box.addEventListener('pointerup', release);
  box.addEventListener('pointercancel', release);
  box.addEventListener('keydown', (event) => {
    const step = MOVES[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const at = [within(point[0] + step[0], cells.length), within(point[1] + step[1], cells[0].length)];
    go(at, false);
    cells[at[0]][at[1]].focus();
    clearTimeout(resting);
    resting = setTimeout(() => go(at, true), REST);
  });

  return {
    draw: (given) => {
      const newAxes = axesOf(given);
      points = given;
      if (JSON.stringify(newAxes) !== JSON.stringify(axes)) {
        axes = newAxes;
        build();
      }
      colour();
    },
    point: ([threshold, acceptance]) => {
      const nearest = (values, wanted) => values.reduce((best, value, i) => (Math.abs(value - wanted) < Math.abs(values[best] - wanted) ? i : best), 0);
      setPoint([nearest(axes.acceptances, acceptance), nearest(axes.thresholds, threshold)]);
      return rowAt(point);
    },
  };
};
