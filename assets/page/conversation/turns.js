// A message of a conversation, on this page and on an exported one.
import { make } from '../lib/dom.js';
import { visible } from '../lib/format.js';

const SPEAKERS = { system: 'System', user: 'User', assistant: 'Models' };

// `authors` are [author, count of letters]; without them the text has no colours.
export const turnItem = ({ role, text, authors }) => {
  const item = make('li', `turn ${role}`), box = make('div', 'turn-text'), letters = [...text];   // Python counts code points, too
  let at = 0;
  const pieces = authors?.length ? authors.map(([author, count]) => [letters.slice(at, at += count).join(''), `w ${author}`]) : [[text, '']];
  box.append(...pieces.map(([piece, className]) => make('span', className, visible(piece))));
  item.append(make('b', 'turn-who', SPEAKERS[role]), box);
  return item;
};
