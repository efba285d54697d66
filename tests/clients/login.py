"""Logs in at Dex as a browser does: login.py URL EMAIL PASSWORD. Prints the cookies of the application as JSON."""

import http.cookiejar
import json
import sys
import urllib.parse
import urllib.request

start, email, password = sys.argv[1:]
cookies = http.cookiejar.CookieJar()
browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies), urllib.request.ProxyHandler({}))
form = browser.open(start)
fields = urllib.parse.urlencode({"login": email, "password": password}).encode()
browser.open(form.url, fields)
print(json.dumps({"cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in cookies)}))
