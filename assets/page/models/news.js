// Hears that there are news of the page's pair, which another window may have asked for (`lib/lost.js` asks for them).
import { listen } from '../lib/dom.js';

export const start = ({ element, trigger }) => listen(element, 'citer-pair', () => trigger('changed'));
